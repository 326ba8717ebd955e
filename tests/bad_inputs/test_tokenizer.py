"""Tokenizers that do not fit or are damaged. Numbers 71 to 80 of the corpus."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flaxft import errors
from tests import tiny
from tests.bad_inputs.corpus import Case

SCORED = ["--config.num_steps=0", "--config.task.test="]


def vocabulary(*lines: str) -> Callable[[Path], None]:
    """vocab.txt in place of tokenizer.json, as old checkpoints have it."""

    def change(model: Path) -> None:
        (model / "tokenizer.json").unlink()
        (model / "vocab.txt").write_text("".join(f"{line}\n" for line in lines))

    return change


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        content = json.loads((model / "tokenizer.json").read_text())
        change(content)
        (model / "tokenizer.json").write_text(json.dumps(content))

    return apply


def without(name: str) -> tuple[str, ...]:
    return tuple(piece for piece in tiny.PIECES if piece != name)


def bpe(model: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE({letter: i for i, letter in enumerate(tiny.LETTERS)}, [])).save(str(model / "tokenizer.json"))


def byte_level_bpe(model: Path) -> None:
    """A tokenizer of GPT-2's kind in BERT's place."""
    from tokenizers import ByteLevelBPETokenizer

    made = ByteLevelBPETokenizer()
    made.train_from_iterator(["anna lives in paris"], vocab_size=100, show_progress=False)
    (model / "tokenizer.json").unlink()
    made.save(str(model / "tokenizer.json"))


def edit_config(model: Path, **changes: Any) -> None:
    (model / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text()) | changes))


def drop_added(name: str) -> Callable[[dict[str, Any]], object]:
    def change(content: dict[str, Any]) -> None:
        del content["model"]["vocab"][name]
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != name]

    return change


def add_token(content: dict[str, Any]) -> None:
    content["added_tokens"].append(content["added_tokens"][-1] | {"id": 500, "content": "[E1]"})


MORE = [*tiny.PIECES, *(f"extra{i}" for i in range(tiny.ENCODER["vocab_size"] - len(tiny.PIECES) + 1))]
CASES = [
    Case(71, "vocab.txt shorter than the embeddings", SCORED, ["validation"], errors.OK, make=vocabulary(*tiny.PIECES)),
    Case(72, "vocab.txt longer than the embeddings", [], ["129 pieces", "128 embeddings", "use the tokenizer files that belong to"], make=vocabulary(*MORE)),
    Case(73, "an entry twice", SCORED, ["vocab.txt:8: 'anna' stands twice"], errors.OK, make=vocabulary(*tiny.PIECES[:7], "anna", *tiny.PIECES[7:])),
    Case(74, "no [UNK]", [], ["vocab.txt: no [UNK] among its 92 pieces", "use the tokenizer files"], make=vocabulary(*without("[UNK]"))),
    Case(74, "no [CLS]", [], ["vocab.txt: no [CLS]"], make=vocabulary(*without("[CLS]"))),
    Case(74, "no [SEP]", [], ["vocab.txt: no [SEP]"], make=vocabulary(*without("[SEP]"))),
    Case(74, "no [PAD] and no [MASK] in vocab.txt", SCORED,
         ["vocab.txt: no [PAD]; it gets the number 91, which the checkpoint never saw", "vocab.txt: no [MASK]"], errors.OK,
         make=vocabulary(*(piece for piece in tiny.PIECES if piece not in ("[PAD]", "[MASK]")))),
    Case(74, "no [PAD], which nothing needs", SCORED, ["validation"], errors.OK, make=changed(drop_added("[PAD]"))),
    Case(74, "no [MASK], which tagging does not need", SCORED, ["validation"], errors.OK, make=changed(drop_added("[MASK]"))),
    Case(74, "no [MASK], which a masked language model needs", ["--config.task.train={folder}/train.conll"], ["mask"], make=changed(drop_added("[MASK]")),
         lines=["from flaxft.tasks.masked_lm import MaskedLm", "cfg.task = MaskedLm(train='none', format='text')", "cfg.evals = {}"]),
    Case(75, "another pad_token_id, of which nothing is computed", SCORED, ["validation"], errors.OK, make=lambda model: edit_config(model, pad_token_id=7)),
    Case(77, "tokenizer.json cut off", [], ["tokenizer.json", "not a tokenizer", "fetch it again"], make=lambda model: cut(model / "tokenizer.json", 500),
         is_real=True),
    Case(78, "BPE", [], ["no unknown token", "use the tokenizer files that belong to the checkpoint"], make=bpe),
    Case(78, "byte-level BPE", [], ["256 pieces", "128 embeddings"], make=byte_level_bpe),
    Case(78, "no normaliser, no special tokens", [], ["adds no [CLS] and [SEP]"], make=changed(lambda content: content.update(post_processor=None))),
    Case(79, "an added token beyond the embeddings", [], ["tokenizer.json: the added token '[E1]' has the number 500", "fetch it again"],
         make=changed(add_token)),
    Case(79, "a piece beyond the embeddings", [], ["501 pieces", "128 embeddings"], make=changed(lambda content: content["model"]["vocab"].update(anna=500))),
    Case(80, "no files", [], ["holds no tokenizer files", "copy those of the checkpoint"], make=lambda model: (model / "tokenizer.json").unlink()),
]  # fmt: skip


def cut(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])


def cased(model: Path) -> None:
    changed(lambda content: content["normalizer"].update(lowercase=False))(model)


RESUMED = Case(76, "cased where the run was uncased", ["--workdir={finished}", "--config.num_steps=2"],
               ["tokenizer: its content is not what the run began with"], make=cased)  # fmt: skip
CASES += [RESUMED]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(tried, finished, case):
    tried(case, finished=finished)


def test_of_pad_token_id_nothing_is_computed(tried, tmp_path):
    """Padding is what has no segment, whatever stands there: the scores are the same to the bit."""
    scores = []
    for number in (0, 7):
        tried(Case(75, "", SCORED, code=errors.OK, make=lambda model, number=number: edit_config(model, pad_token_id=number)))
        scores.append(json.loads((tmp_path / "case" / "run" / "results.json").read_text())["evals"])
        shutil.rmtree(tmp_path / "case")
        (tmp_path / "case").mkdir()
    assert scores[0] == scores[1]
