"""The lengths that benchmarks/train_speed.py draws are CoNLL-2003's, its commands are ones that the sides have, and a rate leaves out the first steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import train_speed
from flaxft.command import apply_overrides, from_file
from tests import tiny

ROOT = Path(__file__).parents[2]


def test_lengths_are_those_of_conll2003():
    """DESIGN's figures: mean 20, median 15, 95th percentile 45, at most 128."""
    lengths = train_speed.drawn_lengths("conll2003", train_speed.NUM_SENTENCES)
    assert np.median(lengths) == 15
    assert abs(np.percentile(lengths, 95) - 45) <= 1
    assert 18 < lengths.mean() < 21
    assert lengths.min() >= 4
    assert lengths.max() == 128


def test_sentences_have_the_lengths_that_were_drawn(tmp_path, monkeypatch):
    from tokenizers import Tokenizer

    model = tiny.encoder(tmp_path / "model")
    source = tmp_path / "train.jsonl"
    source.write_text("".join(json.dumps({"tokens": ["anna", "works", "in", "paris"], "ner_tags": ["B-PER", "O", "O", "B-LOC"]}) + "\n" for _ in range(50)))
    monkeypatch.setattr(train_speed, "NUM_SENTENCES", 40)
    train_speed.write_conll_lengths(source, model, tmp_path / "out.conll")
    blocks = (tmp_path / "out.conll").read_text().strip("\n").split("\n\n")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    found = [sum(len(tokenizer.encode(line.split("\t")[0], add_special_tokens=False).ids) for line in block.split("\n")) + 2 for block in blocks]
    wanted = train_speed.drawn_lengths("conll2003", 40)
    assert len(found) == 40
    assert all(0 <= length - want < 4 for want, length in zip(wanted, found, strict=True))  # a last word may have several pieces


@pytest.mark.parametrize("side", ["flaxft", "flaxft_bf16"])
def test_our_command_is_one_that_the_config_takes(tmp_path, side):
    flags = ["--lengths=wnut17", f"--raw={tmp_path}", f"--data={tmp_path}", f"--model={tmp_path}", f"--out={tmp_path / 'o.json'}"]
    command = train_speed.command(side, train_speed.parse(flags), train=Path("t.conll"), seed=3, workdir="w")
    cfg = from_file(str(ROOT / "configs" / "ner.py"))
    apply_overrides(cfg, [flag for flag in command if flag.startswith("--config.")])
    cfg.check()
    assert (cfg.num_steps, cfg.seed, cfg.data.batch_size, cfg.model.dtype) == (40, 3, 32, "bfloat16" if side.endswith("bf16") else "float32")


def test_a_run_of_ours_may_be_longer_than_a_peers(tmp_path):
    flags = ["--lengths=wnut17", f"--raw={tmp_path}", f"--data={tmp_path}", f"--model={tmp_path}", f"--out={tmp_path / 'o.json'}", "--own_steps=321"]
    args = train_speed.parse(flags)
    assert "--config.num_steps=321" in train_speed.command("flaxft", args, train=Path("t.conll"), seed=1, workdir="w")
    assert "--num_steps=40" in train_speed.command("torch", args, train=Path("t.conll"), seed=1, workdir="w")
    with pytest.raises(SystemExit):
        train_speed.parse([*flags[:-1], "--own_steps=10"])  # no step would be left to count


def test_a_rate_is_of_the_later_steps():
    ours = {"windows": [{"step": 5, "seconds": 9.0, "tokens": 10}, {"step": 10, "seconds": 2.0, "tokens": 10}, {"step": 12, "seconds": 1.0, "tokens": 20}]}
    assert train_speed.rate(ours, skip=5) == 10.0
    assert train_speed.rate({"step_seconds": [9.0, 1.0, 1.0], "step_tokens": [1, 10, 30]}, skip=1) == 20.0
