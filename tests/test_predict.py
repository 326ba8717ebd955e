"""A finished run, applied and scored without the files that it was trained on; and the same weights as a fine-tuned Hugging Face directory."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import flaxft
from flaxft import errors
from flaxft.command import parse
from flaxft.data.pipeline import Data
from flaxft.errors import DamagedError, UserError
from flaxft.main import main
from flaxft.models import hf
from flaxft.models.bert import Bert
from flaxft.models.hf import Pretrained, Untrained
from flaxft.predict import _check_labels
from flaxft.tasks.base import fits_kind
from flaxft.tasks.sequence_classification import SequenceClassification
from flaxft.tasks.token_classification import TokenClassification
from flaxft.train.loop import run
from flaxft.train.prepare import say_origin
from tests import tiny
from tests.models.reference import random_batch

NUM_STEPS = 64
FILES = ("encoder", "train.conll", "validation.conll", "test.conll")
LONG = " ".join(["anna lives in paris and bob works at acme corp in rome ."] * 20)  # 32 tokens are one window
TEXTS = ["anna lives in paris .", "", "bob works for acme corp , in oslo !", LONG, "Zoë 😀 met ANNA à paris (Ⅳ) straße İo\u0301slo", "   ", "\u200b", "dora"]


class Trained(NamedTuple):
    workdir: Path
    folder: Path  # where encoder and corpora were when it was trained
    aside: Path  # where they are now
    results: dict[str, Any]

    def config(self, **changes: Any) -> Any:
        """The run's config, with the data where it is now."""
        return tiny.config(self.aside, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder, aside = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("aside")
    results = run(tiny.config(folder, num_steps=NUM_STEPS), folder / "run")
    for name in FILES:
        (folder / name).rename(aside / name)
    return Trained(folder / "run", folder, aside, results)


@pytest.fixture(scope="module")
def predictor(trained) -> Any:
    return flaxft.load(trained.workdir)


@pytest.fixture
def data_is_back(trained) -> Iterator[None]:
    for name in FILES:
        (trained.aside / name).rename(trained.folder / name)
    yield
    for name in FILES:
        (trained.folder / name).rename(trained.aside / name)


@pytest.fixture
def output(capsys):
    """Runs a command that must succeed; returns the lines that it prints."""

    def run_command(*arguments: Any) -> list[str]:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == errors.OK, capsys.readouterr().err
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out.split("\n")[:-1]

    return run_command


@pytest.fixture
def refusal(capsys):
    """Runs a command that must fail with `code`; returns the one line that says why."""

    def run_command(*arguments: Any, code: int = errors.USER_ERROR) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return run_command


def config_file(file: Path, folder: Path) -> Path:
    file.write_text(f"from pathlib import Path\n\nfrom tests import tiny\n\n\ndef get_config():\n    return tiny.config(Path({str(folder)!r}))\n")
    return file


def check(results: list[dict[str, Any]], texts: list[str]) -> None:
    """What every prediction promises."""
    assert [one["text"] for one in results] == texts
    for one in results:
        assert len(one["words"]) == len(one["tags"])
        position = 0
        for word in one["words"]:
            position = one["text"].index(word, position) + len(word)
        previous = 0
        for entity in one["entities"]:
            assert previous <= entity["start"] < entity["end"] <= len(one["text"])
            assert one["text"][entity["start"] : entity["end"]] == entity["text"]
            assert 0 <= entity["score"] <= 1
            assert entity["type"] in ("PER", "LOC", "ORG")
            previous = entity["end"]


def names(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(entity["type"], entity["text"]) for entity in result["entities"]]


def share_found(result: dict[str, Any]) -> float:
    """How many of the entities of LONG were found in their places."""
    kinds = {"anna": "PER", "bob": "PER", "paris": "LOC", "rome": "LOC", "acme corp": "ORG"}
    wanted = {(kinds[match[0]], match.start()) for match in re.finditer("|".join(kinds), LONG)}
    assert len(wanted) == 100
    return len(wanted & {(entity["type"], entity["start"]) for entity in result["entities"]}) / 100


# ---- from Python --------------------------------------------------------------------------------------------------------------------------------


def test_the_run_has_learnt_enough_to_be_looked_at(trained):
    assert trained.results["evals"]["test"]["entity_f1"] > 0.9


def test_predicts_without_data_and_encoder(trained, predictor):
    assert sorted(entry.name for entry in trained.folder.iterdir()) == ["run"]
    results = predictor.predict(TEXTS)
    check(results, TEXTS)
    assert names(results[0]) == [("PER", "anna"), ("LOC", "paris")]
    assert names(results[2]) == [("PER", "bob"), ("ORG", "acme corp"), ("LOC", "oslo")]
    assert ("PER", "ANNA") in names(results[4])
    for nothing in (1, 5):
        assert results[nothing] == {"text": TEXTS[nothing], "words": [], "tags": [], "entities": []}


def test_a_text_longer_than_max_length_is_predicted_whole(predictor):
    assert predictor.data.max_length == 32
    (result,) = predictor.predict([LONG])
    assert len(result["words"]) == 13 * 20
    assert share_found(result) > 0.9
    (one_word,) = predictor.predict(["x" * 90])  # one word of 90 pieces, in three windows
    assert one_word["words"] == ["x" * 90]


def test_order_and_company_do_not_matter(predictor):
    together = predictor.predict(TEXTS)
    assert predictor.predict(TEXTS[::-1]) == together[::-1]
    for text, result in zip(TEXTS, together, strict=True):
        (alone,) = predictor.predict([text])
        assert_same([alone], [result])
    assert predictor.predict([]) == []


def assert_same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Scores within float32's noise, which moves with the shape of the batch; all else exactly."""
    for mine, theirs in zip(found, wanted, strict=True):
        assert {key: mine[key] for key in ("text", "words", "tags")} == {key: theirs[key] for key in ("text", "words", "tags")}
        assert [{**entity, "score": 0} for entity in mine["entities"]] == [{**entity, "score": 0} for entity in theirs["entities"]]
        np.testing.assert_allclose([entity["score"] for entity in mine["entities"]], [entity["score"] for entity in theirs["entities"]], atol=2e-6)


def test_what_is_predicted_is_not_kept(predictor, tmp_path, monkeypatch):
    monkeypatch.setenv("FLAXFT_CACHE", str(tmp_path))
    predictor.predict(TEXTS)
    assert not [entry for entry in tmp_path.rglob("*") if entry.is_file()]


def test_any_text_keeps_its_offsets(predictor):
    rng = np.random.default_rng(0)
    pieces = ["anna", "PARIS", "acme corp", " ", "  ", "\t", ".", "é", "e\u0301", "\u0301", "\u200b", "\ufeff", "😀", "👩\u200d👧", "北京", "İ", "ß", "ﬁ"]
    pieces += ["\x00", "\x85", "\u2028", "[SEP]", "##a", "ＯＳＬＯ", "مرحبا", "ไทย"]
    texts = ["".join(rng.choice(pieces, rng.integers(0, 40))) for _ in range(150)]
    results = predictor.predict(texts)
    check(results, texts)
    assert sum(len(one["entities"]) for one in results) > 100


def test_records_of_words_as_the_training_data_has_them(trained, predictor):
    """What the run wrote for its test split comes out again, word for word."""
    written = [json.loads(line) for line in (trained.workdir / "predictions/test.jsonl").read_text().splitlines()]
    assert len(written) == 20
    assert_same(predictor.predict([{"tokens": one["words"]} for one in written]), written)
    assert_same(predictor.predict([{"tokens": one["words"], "tags": one["tags"]} for one in written]), written)


def test_a_moved_run_predicts(trained, predictor, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "elsewhere")
    assert flaxft.load(str(tmp_path / "elsewhere")).predict(TEXTS) == predictor.predict(TEXTS)


def test_one_string_is_no_list_of_texts(predictor):
    with pytest.raises(UserError, match="a list of texts"):
        predictor.predict("anna lives in paris .")


@pytest.mark.parametrize("record", [{"tokens": []}, {"tokens": ["a", 1]}, {"tokens": 5}, {"text": 5}, {"text": "\ud800"}, {}, {"label": "x"}])
def test_a_record_that_is_no_text(predictor, record):
    with pytest.raises(UserError, match=r"^input:2: "):
        predictor.predict([{"text": "anna"}, record])


# ---- --mode=predict -----------------------------------------------------------------------------------------------------------------------------


def test_predict_a_text_file(trained, predictor, output, tmp_path):
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    lines = output("--mode=predict", f"--workdir={trained.workdir}", f"--input={tmp_path / 'in.txt'}")
    assert [json.loads(line) for line in lines] == predictor.predict(TEXTS)
    assert "Zoë 😀" in lines[4]


@pytest.mark.parametrize(
    "content",
    [b"anna\n\nin oslo", b"anna\r\n\r\nin oslo\r\n", b"\xef\xbb\xbfanna\n\nin oslo\n"],
    ids=["no line break at the end", "CRLF", "BOM"],
)
def test_lines_of_a_text_file(trained, output, tmp_path, content):
    (tmp_path / "in.txt").write_bytes(content)
    lines = output("--mode=predict", f"--workdir={trained.workdir}", f"--input={tmp_path / 'in.txt'}")
    assert [json.loads(line)["text"] for line in lines] == ["anna", "", "in oslo"]


def test_only_line_feeds_end_a_line(trained, output, tmp_path):
    text = "anna\u2028in\x85oslo\x0band\x0cbob"
    (tmp_path / "in.txt").write_text(f"{text}\n")
    (line,) = output("--mode=predict", f"--workdir={trained.workdir}", f"--input={tmp_path / 'in.txt'}")
    assert json.loads(line)["text"] == text


def test_predict_an_empty_file(trained, output, tmp_path):
    (tmp_path / "in.txt").write_bytes(b"")
    assert output("--mode=predict", f"--workdir={trained.workdir}", f"--input={tmp_path / 'in.txt'}") == []


def test_predict_jsonl_into_a_file(trained, predictor, output, tmp_path):
    records = [{"text": TEXTS[0]}, {"text": TEXTS[2]}, {"tokens": ["anna", "lives", "in", "paris", "."]}, {"text": LONG, "id": 7}, {"text": ""}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    assert output("--mode=predict", f"--workdir={trained.workdir}", f"--input={tmp_path / 'in.jsonl'}", f"--output={target}") == []
    results = [json.loads(line) for line in target.read_text().splitlines()]
    assert results == predictor.predict(records)
    assert names(results[2]) == names(results[0])
    assert results[2]["text"] == "anna lives in paris ."
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "anna"', "bad JSON"),
        ('"anna"', "a JSON str, expected an object"),
        ("[1]", "a JSON list, expected an object"),
        ("5", "a JSON int, expected an object"),
        ('{"tokens": []}', "empty list of words"),
        ('{"tokens": [1]}', "1 is not text"),
        ('{"words": 5}', "expected a list of words"),
        ('{"text": "\\ud800"}', "bad JSON"),
        ('{"body": "anna"}', "no column of words"),
        ("[" * 100_000, "bad JSON"),
    ],
)
def test_a_bad_line_is_named(trained, refusal, tmp_path, line, what):
    file = tmp_path / "in.jsonl"
    file.write_text(f'{{"text": "anna"}}\n{line}\n{{"text": "bob"}}\n')
    message = refusal("--mode=predict", f"--workdir={trained.workdir}", f"--input={file}", f"--output={tmp_path / 'out'}")
    assert f"{file}:2: " in message
    assert what in message
    assert not (tmp_path / "out").exists()


def test_predict_refuses(trained, refusal, tmp_path):
    workdir = f"--workdir={trained.workdir}"
    assert "--input is missing" in refusal("--mode=predict", workdir, code=errors.USAGE)
    assert f"{tmp_path}/none.txt: no such file" in refusal("--mode=predict", workdir, f"--input={tmp_path}/none.txt")
    assert f"{tmp_path}: is a directory" in refusal("--mode=predict", workdir, f"--input={tmp_path}")
    file = tmp_path / "in.txt"
    file.write_bytes(b"caf\xe9\n")
    assert f"{file}:1: byte 0xe9 is not UTF-8" in refusal("--mode=predict", workdir, f"--input={file}")
    file.write_text("anna\n")
    message = refusal("--mode=predict", workdir, f"--input={file}", f"--output={tmp_path}/none/out")
    assert f"--output={tmp_path}/none/out" in message
    message = refusal("--mode=predict", workdir, f"--input={file}", "--config.data.max_length=65")
    assert "data.max_length is 65" in message
    assert "64 positions" in message


def test_the_command_keeps_columns_and_cuts_nothing_of_entities(trained, predictor, output, tmp_path):
    (tmp_path / "in.csv").write_text("id,tokens,ner_tags\n7,anna lives,B-NOTHING O\n8,bob,\n")
    lines = output("--mode=predict", f"--workdir={trained.workdir}", f"--input={tmp_path / 'in.csv'}", "--keep=id")
    found = [json.loads(line) for line in lines]
    assert [one.pop("id") for one in found] == ["7", "8"]
    assert_same(found, predictor.predict([{"tokens": ["anna", "lives"]}, {"tokens": ["bob"]}]))


def test_lines_come_block_by_block(trained, tmp_path, monkeypatch, capsys):
    """A mistake in the third block is found when the first two are out; a file is written whole or not at all."""
    monkeypatch.setattr("flaxft.predict.BLOCK", 2)
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("anna", "bob", "carl", "dora", "oslo")) + '{"text": 5}\n')
    arguments = ["--mode=predict", f"--workdir={trained.workdir}", f"--input={file}"]
    assert main(arguments) == errors.USER_ERROR
    printed = capsys.readouterr()
    assert [json.loads(line)["text"] for line in printed.out.splitlines()] == ["anna", "bob", "carl", "dora"]
    assert f"{file}:6: " in printed.err
    target = tmp_path / "out.jsonl"
    target.write_text("before")
    assert main([*arguments, f"--output={target}"]) == errors.USER_ERROR
    assert target.read_text() == "before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_who_has_read_enough_ends_it_quietly(trained, tmp_path):
    """`| head -1` over more than a pipe holds."""
    (tmp_path / "in.txt").write_text("anna lives in paris .\n" * 3000)
    command = [sys.executable, "-m", "flaxft.main", "--mode=predict", f"--workdir={trained.workdir}", f"--input={tmp_path / 'in.txt'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline())["text"] == "anna lives in paris ."
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == errors.OK


@pytest.mark.parametrize("value", ["-1", "many", "1.5", ""])
def test_top_k_is_a_number_or_all(trained, refusal, tmp_path, value):
    message = refusal("--mode=predict", f"--workdir={trained.workdir}", "--input=x", f"--top_k={value}", code=errors.USAGE)
    assert f"--top_k={value}, expected how many scores of labels" in message


# ---- --mode=eval --------------------------------------------------------------------------------------------------------------------------------


def assert_scores(line: str, wanted: dict[str, dict[str, float]]) -> None:
    """The loss within float32's noise, which moves with the shape of the batch; all else exactly."""
    found = json.loads(line)["evals"]
    assert set(found) == set(wanted)
    for split, metrics in wanted.items():
        assert found[split].pop("loss") == pytest.approx(metrics["loss"], rel=1e-5)
        assert found[split] == {name: value for name, value in metrics.items() if name != "loss"}


def test_eval_equals_the_results_of_the_run(trained, data_is_back, output):
    lines = output("--mode=eval", f"--workdir={trained.workdir}")
    assert_scores(lines[-1], json.loads((trained.workdir / "results.json").read_text())["evals"])
    assert any("micro avg" in line for line in lines)
    assert_scores((trained.workdir / "eval.json").read_text(), trained.results["evals"])


def test_eval_with_overrides(trained, output):
    """Scores other files than the run was told of, whose own are gone."""
    workdir = f"--workdir={trained.workdir}"
    moved = output("--mode=eval", workdir, "--config.task.validation=", f"--config.task.test={trained.aside / 'test.conll'}")
    assert_scores(moved[-1], {"test": trained.results["evals"]["test"]})
    other = output("--mode=eval", workdir, "--config.task.test=", f"--config.task.validation={trained.aside / 'train.conll'}", "--config.data.max_examples=7")
    evals = json.loads(other[-1])["evals"]
    assert set(evals) == {"validation"}
    assert any("7 records" in line for line in other)


def test_eval_refuses(trained, refusal, tmp_path):
    workdir = f"--workdir={trained.workdir}"
    message = refusal("--mode=eval", workdir)
    assert str(trained.folder / "validation.conll") in message
    message = refusal("--mode=eval", workdir, "--config.task.validation=", "--config.task.test=")
    assert "no split to score; set --config.task.validation=FILE" in message
    (tmp_path / "other.conll").write_text("anna\tB-PER\nmars\tB-PLANET\n")
    message = refusal("--mode=eval", workdir, "--config.task.validation=", f"--config.task.test={tmp_path / 'other.conll'}")
    assert str(tmp_path / "other.conll") in message
    assert "'B-PLANET'" in message
    message = refusal("--mode=eval", workdir, "--config.task.validation=", f"--config.task.test={trained.aside}/test.conll", "--config.data.max_length=65")
    assert "data.max_length is 65" in message


# ---- folders that hold no sound run -------------------------------------------------------------------------------------------------------------


def test_a_workdir_without_a_run(refusal, tmp_path):
    (tmp_path / "in.txt").write_text("anna\n")
    for mode in ("--mode=predict", "--mode=eval"):
        source = [f"--input={tmp_path / 'in.txt'}"] if mode == "--mode=predict" else []
        message = refusal(mode, f"--workdir={tmp_path}", *source, code=errors.USAGE)
        assert f"{tmp_path} holds no run (no config.json); give the folder of one" in message
    with pytest.raises(UserError, match=r"holds no run \(no config\.json\); train first"):
        flaxft.load(tmp_path)


def test_a_run_without_a_checkpoint(trained, refusal, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "in.txt").write_text("anna\n")
    assert "holds no checkpoint yet; train first" in refusal("--mode=predict", f"--workdir={tmp_path / 'run'}", f"--input={tmp_path / 'in.txt'}")


@pytest.mark.parametrize("file", ["config.json", "model/config.json", "model/tokenizer.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_workdir(trained, tmp_path, file, damage):
    shutil.copytree(trained.workdir, tmp_path / "run")
    broken = tmp_path / "run" / file
    if damage == "gone":
        broken.unlink()
    else:
        broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(UserError) as caught:
        flaxft.load(tmp_path / "run")
    assert str(broken.parent) in str(caught.value)


def test_a_damaged_checkpoint_is_not_used(trained, refusal, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    best = trained.results["best"]["step"]
    largest = max((tmp_path / "run/checkpoints" / str(best)).rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(DamagedError):
        flaxft.load(tmp_path / "run")
    (tmp_path / "in.txt").write_text("anna\n")
    message = refusal("--mode=predict", f"--workdir={tmp_path / 'run'}", f"--input={tmp_path / 'in.txt'}", code=errors.DAMAGED)
    assert str(largest) in message


# ---- a fine-tuned model in Hugging Face's layout ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fine_tuned(trained, predictor, tmp_path_factory) -> Path:
    """The run's best weights as PyTorch's BertForTokenClassification has them."""
    directory = tmp_path_factory.mktemp("fine_tuned")
    predictor.save_pretrained(directory)
    return directory


def test_a_fine_tuned_model_is_evaluated(trained, fine_tuned, output, tmp_path):
    config = config_file(tmp_path / "fine_tuned_ner.py", trained.aside)
    for place in ((), (f"--workdir={tmp_path / 'none'}",)):
        lines = output("--mode=eval", f"--config={config}", f"--config.model.path={fine_tuned}", *place)
        assert_scores(lines[-1], trained.results["evals"])
    assert not (tmp_path / "none").exists()
    assert not Path("runs/fine_tuned_ner").exists()


def test_a_fine_tuned_model_predicts(trained, fine_tuned, predictor, output, tmp_path):
    from_directory = flaxft.load(fine_tuned, task=TokenClassification())
    assert from_directory.task.labels == predictor.task.labels
    texts = [text for text in TEXTS if text != LONG]
    assert_same(from_directory.predict(texts), predictor.predict(texts))
    config = config_file(tmp_path / "fine_tuned_ner.py", trained.aside)
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    lines = output("--mode=predict", f"--config={config}", f"--config.model.path={fine_tuned}", f"--input={tmp_path / 'in.txt'}")
    assert_same([json.loads(line) for line in lines], predictor.predict(TEXTS))


def test_windows_are_never_longer_than_the_model(fine_tuned):
    """It has 64 positions, and the config's default is 128 tokens."""
    assert Data().max_length > 64
    loaded = flaxft.load(fine_tuned, task=TokenClassification())
    assert loaded.data.max_length == 64
    (result,) = loaded.predict([LONG])
    check([result], [LONG])
    assert share_found(result) > 0.5, "the run has seen 32 positions; of the others the embeddings are random"


def test_a_fine_tuned_model_is_trained_on(trained, fine_tuned, tmp_path, capsys):
    """Its head is used: the first loss is where the run left off, not where it began."""
    changes = {"model.path": str(fine_tuned), "num_steps": 3, "optim.learning_rate": 1e-5}
    run(trained.config(**changes), tmp_path / "on")
    assert ", 0 of them new" in capsys.readouterr().out
    continued, begun = tiny.losses(tmp_path / "on"), tiny.losses(trained.workdir)
    assert continued[1] < 0.2 * begun[1]
    source = Pretrained(path=str(fine_tuned))
    checkpoint = source.open()
    head = TokenClassification(labels=checkpoint.labels or ()).head
    assert source.load(checkpoint, head, reuse_head=True, seed=0).fresh == ()


def test_a_fine_tuned_model_with_other_labels_keeps_what_it_knows(trained, fine_tuned, tmp_path, capsys):
    corpus = tmp_path / "train.conll"
    corpus.write_text((trained.aside / "train.conll").read_text().replace("ORG", "FIRM"))
    changes = {"model.path": str(fine_tuned), "num_steps": 1, "task.train": str(corpus), "task.validation": "", "task.test": ""}
    run(trained.config(**changes), tmp_path / "on")
    printed = capsys.readouterr().out
    assert ", 0 of them new" not in printed
    assert "lack ['B-FIRM', 'I-FIRM'] of the train split, which are new to its head" in printed
    assert "the head keeps what it learnt of 5 labels; new: B-FIRM, I-FIRM; left out: B-ORG, I-ORG" in printed


def test_labels_are_never_matched_by_their_order_in_silence(trained, predictor, refusal, tmp_path, caplog):
    workdir, labels = f"--workdir={trained.workdir}", predictor.labels
    file = tmp_path / "numbers.jsonl"
    file.write_text(json.dumps({"tokens": ["anna", "lives"], "ner_tags": [labels.index("B-PER"), 0]}) + "\n")
    test = ["--config.task.validation=", f"--config.task.test={file}"]
    assert main(["--mode=eval", workdir, *test]) == errors.OK
    assert "numbers.jsonl: its labels are numbers, read as places in task.labels: 0 is O, 1 is B-LOC" in caplog.text
    message = refusal("--mode=eval", workdir, *test, f"--config.task.labels={','.join(reversed(labels))}")
    assert "gives ['O', 'B-LOC', 'I-LOC', 'B-ORG', 'I-ORG', 'B-PER', 'I-PER'], in this order; leave task.labels out" in message
    caplog.clear()
    file.write_text(json.dumps({"tokens": ["anna", "lives"], "ner_tags": ["B-PER", "O"]}) + "\n")
    assert main(["--mode=eval", workdir, *test]) == errors.OK
    assert "numbers" not in [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_predictor_says_what_it_is(trained, predictor):
    test = trained.results["evals"]["test"]["entity_f1"]
    assert predictor.scores["test"] == trained.results["evals"]["test"]
    assert repr(predictor).startswith(f"Predictor(TokenClassification; {trained.workdir}; step {predictor.step}; 7 labels: O, B-LOC, I-LOC, B-ORG, I-ORG, ...")
    assert f"test entity_f1 {test:.4f}" in repr(predictor)


def test_labels_that_were_numbers_may_be_named(caplog):
    numbered, named = SequenceClassification(labels=("0", "1")), SequenceClassification(labels=("bad", "good"))
    with caplog.at_level("INFO", "flaxft"):
        _check_labels(numbered, named, Path("runs/x"))
    assert "runs/x: task.labels name the labels of the run in order: 0 is bad, 1 is good" in caplog.text
    for saved, asked in ((named, numbered), (numbered, SequenceClassification(labels=("bad", "good", "fair")))):
        with pytest.raises(UserError, match=r"in this order; leave task\.labels out"):
            _check_labels(saved, asked, Path("runs/x"))


# ---- a run begins from another run's weights --------------------------------------------------------------------------------------------------


def test_a_run_goes_on_from_a_run(trained, tmp_path, capsys):
    """Without an export in between: encoder and head of the best step, the same first loss as from the exported directory."""
    arguments = [f"--from={trained.workdir}", f"--config={config_file(tmp_path / 'config.py', trained.aside)}", f"--workdir={tmp_path / 'on'}"]
    arguments += ["--config.num_steps=3", "--config.optim.learning_rate=1e-5", "--config.task.test="]
    assert main(arguments) == errors.OK
    printed = capsys.readouterr().out
    assert f"from the best weights of {trained.workdir}: encoder and head" in printed
    assert ", 0 of them new" in printed
    assert tiny.losses(tmp_path / "on")[1] < 0.2 * tiny.losses(trained.workdir)[1]
    saved = json.loads((tmp_path / "on/config.json").read_text())
    assert saved["config"]["model"]["path"] == str(trained.workdir)
    assert saved["facts"]["model"] == Pretrained(path=str(trained.workdir)).open().fingerprint
    assert main(arguments) == errors.OK  # the same command resumes
    assert "resumed from step 3" in capsys.readouterr().out
    checks = flaxft.load(tmp_path / "on").predict(TEXTS[:1])
    assert names(checks[0]) == [("PER", "anna"), ("LOC", "paris")]


def test_the_weights_of_a_run_are_those_it_predicts_with(trained, predictor):
    source = Pretrained(path=str(trained.workdir))
    checkpoint = source.open()
    assert (checkpoint.kind, checkpoint.labels) == ("token", predictor.task.labels)
    loaded = source.load(checkpoint, predictor.task.head, reuse_head=True, seed=0)
    assert loaded.fresh == ()
    jax.tree.map(np.testing.assert_array_equal, loaded.params, jax.tree.map(np.asarray, predictor.params))


def test_rows_of_the_head_follow_the_labels(trained, predictor, caplog):
    source = Pretrained(path=str(trained.workdir))
    checkpoint = source.open()
    labels = ("B-NEW", *reversed(predictor.task.labels[:-1]))
    task = TokenClassification(labels=labels, scheme="IOB2")
    with caplog.at_level("INFO", "flaxft"):
        loaded = source.load(checkpoint, task.head, reuse_head=False, labels=labels, seed=0)
    assert f"the head keeps what it learnt of {len(labels) - 1} labels; new: B-NEW; left out: {predictor.task.labels[-1]}" in caplog.text
    fresh = source.load(checkpoint, task.head, reuse_head=False, seed=0).params["head"]["classifier"]
    for name, array in loaded.params["head"]["classifier"].items():
        old = np.asarray(predictor.params["head"]["classifier"][name])
        np.testing.assert_array_equal(array[..., 1:], old[..., -2::-1])
        np.testing.assert_array_equal(array[..., 0], fresh[name][..., 0])


def test_another_task_takes_the_encoder_alone(trained, predictor, caplog):
    source = Pretrained(path=str(trained.workdir))
    checkpoint = source.open()
    task = SequenceClassification(labels=("a", "b"))
    assert not fits_kind(task, checkpoint)
    loaded = source.load(checkpoint, task.head, reuse_head=False, seed=0)
    jax.tree.map(np.testing.assert_array_equal, loaded.params["encoder"], jax.tree.map(np.asarray, predictor.params["encoder"]))
    with caplog.at_level("INFO", "flaxft"):
        say_origin(checkpoint, task, reuse_head=False)
    assert "the encoder alone: its head is of the kind 'token', and this task needs 'sequence'" in caplog.text


def test_without_a_config_it_is_the_runs(trained, data_is_back, tmp_path):
    command = parse([f"--from={trained.workdir}", f"--workdir={tmp_path / 'on'}", "--config.num_epochs=5"], modes=["train", "predict"])
    assert command.config.model.path == str(trained.workdir)
    assert command.config.task.labels == flaxft.load(trained.workdir).task.labels
    assert command.config.num_epochs == 5
    words = ["train", "more.conll", f"--from={trained.workdir}", f"--workdir={tmp_path / 'on'}"]
    more = parse(words, modes=["train", "predict"]).config.task
    assert (more.train, more.labels, more.validation) == ("more.conll", (), command.config.task.validation)  # new labels are looked for in the new file


def test_from_refuses(trained, refusal, tmp_path):
    workdir, config = f"--workdir={tmp_path / 'on'}", f"--config={config_file(tmp_path / 'config.py', trained.aside)}"
    assert f"--from={tmp_path} holds no run" in refusal(f"--from={tmp_path}", workdir, config)
    assert "is the --workdir itself" in refusal(f"--from={trained.workdir}", f"--workdir={trained.workdir}", config)
    assert "--workdir is missing" in refusal(f"--from={trained.workdir}", code=errors.USAGE)
    assert "both say where the weights are" in refusal(f"--from={trained.workdir}", workdir, config, "--config.model.path=x")
    assert "--from is for --mode=train" in refusal("--mode=eval", f"--from={trained.workdir}", workdir, code=errors.USAGE)
    shutil.copytree(trained.workdir, tmp_path / "begun", ignore=shutil.ignore_patterns("checkpoints"))
    assert "holds no checkpoint yet" in refusal(f"--from={tmp_path / 'begun'}", workdir, config)
    assert not (tmp_path / "on").exists()
    untrained = Untrained(path=str(trained.workdir))
    checkpoint = untrained.open()
    with pytest.raises(UserError, match="whose weights an untrained model does not take"):
        untrained.load(checkpoint, TokenClassification().head, reuse_head=False, seed=0)


def test_a_longer_run_is_told_how_to_go_on(trained):
    words = rf"num_steps: {NUM_STEPS} -> {NUM_STEPS + 10}.* to go on from its best weights give --from={trained.workdir} and another --workdir"
    with pytest.raises(UserError, match=words):
        run(trained.config(num_steps=NUM_STEPS + 10), trained.workdir)


def test_what_is_not_fine_tuned_is_refused(trained, fine_tuned, refusal, tmp_path):
    config = config_file(tmp_path / "fine_tuned_ner.py", trained.aside)
    message = refusal("--mode=eval", f"--config={config}", f"--workdir={tmp_path / 'none'}")
    for part in (str(trained.aside / "encoder"), "has no token head", "['BertModel']", "train it first"):
        assert part in message
    message = refusal("--mode=eval", f"--config={config}", f"--config.model.path={fine_tuned}", "--config.task.labels=O,B-PER")
    assert "task.labels are ['O', 'B-PER']" in message
    assert "leave task.labels empty" in message
    with pytest.raises(UserError, match="no such directory"):
        flaxft.load(tmp_path / "none", task=TokenClassification())


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_pytorch_reads_a_fine_tuned_model(fine_tuned, predictor):
    import torch
    from transformers import AutoModelForTokenClassification

    theirs = AutoModelForTokenClassification.from_pretrained(fine_tuned, attn_implementation="eager").eval()
    assert tuple(theirs.config.id2label.values()) == predictor.task.labels
    batch = random_batch(np.random.default_rng(3), vocab_size=128, max_length=48, num_labels=2, rows=5)
    given = {name: torch.tensor(batch[name]).long() for name in ("input_ids", "token_type_ids")}
    with torch.no_grad():
        wanted = theirs(**given, attention_mask=torch.tensor(batch["segment_ids"]).long()).logits.numpy()
    source = Pretrained(path=str(fine_tuned))
    loaded = source.load(source.open(), predictor.task.head, reuse_head=True, seed=0)
    found = np.asarray(tiny.outputs(loaded, batch))
    real = batch["segment_ids"] > 0
    assert np.abs(found - wanted)[real].max() <= 1e-5 * max(1.0, np.abs(wanted[real]).max())


def test_another_model_than_the_runs_is_never_passed_over(trained, data_is_back, tmp_path, monkeypatch):
    """A run in the default place gives way to a model that is asked for; a workdir that is asked for refuses it."""
    config = tmp_path / "run.py"
    config.write_text(f"from pathlib import Path\nfrom tests import tiny\ndef get_config():\n    return tiny.config(Path({str(trained.folder)!r}))\n")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.workdir, tmp_path / "runs" / "run")
    other = [f"--config={config}", "--mode=eval", "--config.model.path=elsewhere"]
    modes = ["train", "eval", "predict"]
    command = parse(other, modes=modes)
    assert (command.has_run, command.config.model.path) == (False, "elsewhere")
    assert parse(other[:2], modes=modes).has_run
    with pytest.raises(UserError, match="would not be used"):
        parse([*other, "--workdir=runs/run"], modes=modes)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_the_transformers_pipeline_finds_the_same_entities(fine_tuned, predictor):
    """Type, offsets and score, as `pipeline(aggregation_strategy="first")` gives them for the directory that was written."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

    model, tokenizer = AutoModelForTokenClassification.from_pretrained(fine_tuned), AutoTokenizer.from_pretrained(fine_tuned)
    assert model.config.id2label == dict(enumerate(predictor.task.labels))
    theirs = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="first")
    texts = ["anna lives in paris .", "bob works for acme corp , in oslo !"]
    for text, ours in zip(texts, predictor.predict(texts), strict=True):
        found = [(one["entity_group"], one["start"], one["end"]) for one in theirs(text)]
        assert found == [(one["type"], one["start"], one["end"]) for one in ours["entities"]]
        for one, entity in zip(theirs(text), ours["entities"], strict=True):
            assert abs(float(one["score"]) - entity["score"]) < 1e-4


def test_a_head_that_transformers_has_not_got_is_refused(predictor, tmp_path):
    with pytest.raises(UserError, match="'mood' head"):
        hf.write(tmp_path / "out", predictor.params, Bert, {}, kind="mood", labels=())
    assert not (tmp_path / "out").exists()
