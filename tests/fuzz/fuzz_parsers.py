"""Coverage-guided fuzzing of flaxft's own readers with atheris (libFuzzer): whatever the bytes, a reader returns or raises UserError.

    pip install -e ".[fuzz]"; python tests/fuzz/fuzz_parsers.py [SECONDS]      60 by default; exit code 1 where something was found

Each finding is said once, by where in flaxft it arose, with the input that did it. tests/fuzz/test_fuzz_parsers.py tries the same readers for a few seconds
with plain mutations, where atheris is not installed too.
"""

from __future__ import annotations

import bz2
import importlib
import json
import lzma
import os
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CONFIG = {"model_type": "bert", "vocab_size": 8, "hidden_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1, "id2label": {"0": "O"},
     "architectures": ["A"]}
RUN = {
    "config": {
        "type": "flaxft.config.Config", "seed": 1, "evals": {"validation": {"type": "flaxft.config.Eval", "every": 3}},
        "task": {"type": "flaxft.tasks.token_classification.TokenClassification", "labels": ["O"]},
        "model": {"type": "flaxft.models.hf.Pretrained", "path": "x"},
    },
    "facts": {"data": {}, "model": "1", "tokenizer": "2", "vocab_size": 8, "max_length": 8},
}  # fmt: skip
PLAN = {"shapes": [[1, 16, 2], [2, 16, 2]], "batch_size": 2, "num_items": 3, "fingerprint": "x", "padding_fraction": 0.5, "fits": True, "parts": [],
     "version": 2}
SQUAD = {"data": [{"title": "t", "paragraphs": [{"context": "ab", "qas": [{"id": "1", "question": "q", "answers": [{"text": "a", "answer_start": 0}]}]}]}]}
CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}], "label": "x"}
MANIFEST = {"version": 1, "step": 3, "host": {}, "facts": {}, "versions": {}, "files": {"a": {"sha256": "0", "size": 1}}, "digest": "0"}
LABEL_STUDIO = [{"data": {"text": "Ada"}, "annotations": [{"result": [{"value": {"start": 0, "end": 3, "labels": ["P"]}}]}]}]
ENTRY = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}      '
TOKENIZER = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
             "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
                  "vocab": {"[UNK]": 0}}}  # fmt: skip
ZIP = b"PK\3\4" + bytes(26) + b"PK\1\2" + bytes(42) + b"PK\5\6" + bytes(4) + b"\1\0\1\0" + bytes(10)  # a member without a name


class Reader(NamedTuple):
    """`read` is given the file, whose name decides nothing else."""

    file: str
    seed: bytes
    read: Callable[[Path], object]


def _source(file: Path, **fields: str) -> object:
    from flaxft.data.source import open_source

    source = open_source(str(file), split="train", **fields)
    return [source.where(i) for i in range(len(source))]


def _tagged(file: Path) -> object:
    """Columns as a task reads them: scheme, conversion, labels."""
    from flaxft.data import tags
    from flaxft.data.source import open_source

    source = open_source(str(file), split="train")
    sentences = [record[max(record, key=int)] for record in source]
    scheme = tags.detect(sentences, where=source.where)
    for i, sentence in enumerate(sentences):
        tags.check(sentence, scheme, source.where(i))
    return [] if scheme == tags.PLAIN else [(tags.to_iob2(one, scheme), tags.count_malformed(one, scheme)) for one in sentences]


def _spanned(file: Path) -> object:
    """Spans of characters, or a word a row, as a task reads them."""
    from flaxft.data import spans, word_rows
    from flaxft.data.source import open_source

    source = open_source(str(file), split="train")
    if columns := spans.find(source):
        return list(spans.convert(source, columns, how=spans.choose_way(source, columns)))
    rows = word_rows.find(source)
    return list(word_rows.group(source, rows)) if rows else []


def _labelled(file: Path) -> object:
    """Lines as classification reads them."""
    from flaxft.data.labels import check_kinds, label_column, label_name
    from flaxft.data.source import open_source
    from flaxft.data.texts import texts_of

    source = open_source(str(file), split="train")
    column = label_column(source[0], "", ("label",))
    names = [(texts_of(record, (), allow_raw=False), label_name(record[label_column(record, column, ())], (), column=column)) for record in source]
    check_kinds(source, lambda record: [record[column]], column=column)
    return names


def _model_config(file: Path) -> object:
    from flaxft.models.hf import Pretrained

    checkpoint = Pretrained(path=str(file.parent))
    checkpoint._stored = lambda directory: {}  # type: ignore[method-assign]
    return checkpoint.open()


def _weights(file: Path) -> object:
    from flaxft.models.weights import read_array, stored_tensors

    return [read_array(tensor, where=file) for tensor in stored_tensors(file.parent).values()]


def _run_config(file: Path) -> object:
    from flaxft import config

    return config.read(file)


def _plan(file: Path) -> object:
    from flaxft.data.packing import Plan, items_of_step

    plan = Plan.read(file)
    return None if plan.num_items > 10**6 or plan.batch_size > 10**6 else items_of_step(plan, seed=0, step=0)


def _manifest(file: Path) -> object:
    from flaxft import checkpoint

    return checkpoint.verify(file.parent)


def _tokenizer(file: Path) -> object:
    from flaxft.data.tokenize import load_tokenizer

    return load_tokenizer(file.parent, vocab_size=8, max_length=8)


def _vocabulary(file: Path) -> object:
    from types import SimpleNamespace

    from flaxft.data.tokenize import _check_vocabulary

    tokens = SimpleNamespace(unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token=None, convert_tokens_to_ids=lambda token: 0)
    return _check_vocabulary(file, tokens)


def _lines(file: Path) -> object:
    from flaxft.data.raw import read_raw

    return list(read_raw(str(file), takes_columns=True))


def _overrides(file: Path) -> object:
    from flaxft.command import apply_overrides
    from flaxft.config import Config
    from flaxft.models.hf import Pretrained
    from flaxft.tasks.token_classification import TokenClassification

    cfg = Config(task=TokenClassification(), model=Pretrained())
    apply_overrides(cfg, [f"--config.{line}" for line in file.read_bytes().decode(errors="surrogateescape").split("\n")])
    return cfg.check()


READERS = (
    Reader("a.conll", b"Ada\tB-PER\nwrote\tO\n\nHi O\n", _tagged),
    Reader("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", "label": "\\u00e9"}\n', _labelled),
    Reader("a.json", b'[{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]', _labelled),
    Reader("a.csv", b'text,label\n"a ""b""",1\nc,2\n', _labelled),
    Reader("a.tsv", b"text\tlabel\na\t1\n", _labelled),
    Reader("b.csv", b"sep=;\ntokens;tags\n['a', \"b\"];[0 1]\n[\"c\"];array([1, 2], dtype=int32)\n", _source),
    Reader("b.tsv", b'label\ttext\n0\t"So," he said\n1\t"no\n', _source),
    Reader("c.csv.xz", lzma.compress(b"text,label\na,1\n"), _source),
    Reader("d.csv.bz2", bz2.compress(b"text,label\na,1\n"), _source),
    Reader("a.zip", ZIP, _source),
    Reader("b.json", json.dumps(SQUAD).encode(), _source),
    Reader("c.json", json.dumps(CHAT, indent=1).encode(), _source),
    Reader("d.json", json.dumps(SQUAD["data"][0]["paragraphs"]).encode(), _source),
    Reader("a.unknown", b"a O\nb O\n", _source),
    Reader("e.json", json.dumps(LABEL_STUDIO).encode(), _spanned),
    Reader("f.json", b'[["Ada", {"entities": [[0, 3, "P"]]}]]', _spanned),
    Reader("g.json", b'[{"paragraphs": [{"sentences": [{"tokens": [{"orth": "Ada", "ner": "U-P"}]}]}]}]', _source),
    Reader("b.jsonl", '{"text": "Ada \U0001f600", "label": {"P": {"Ada": [[0, 2]]}}, "answer": "accept"}\n'.encode(), _spanned),
    Reader("c.jsonl", b'{"text": "Ada", "spans": [{"start": 0, "end": 3, "label": "P", "text": "Ada"}], "tokens": [{"start": 0, "end": 3}]}', _spanned),
    Reader("e.csv", b"Sentence #,Word,Tag\nS1,Ada,B-P\n,ran,O\nS2,Hi,O\n", _spanned),
    Reader("a.conllu", b"# a = 1\n1-2\tab" + b"\t_" * 8 + b"\n1\ta" + b"\tX" * 8 + b"\n", _source),
    Reader("b.conll", b"#begin document (a); part 0\na 0 0 Ada N (N*) - - - - (P) -\n\n#end document\n", _source),
    Reader("c.conll", b"# id = 1\nAda O\n\n# id = 2\nHi O\n", _source),
    Reader("a.ann", b"T1\tP 0 3\tAda\n", _source),
    Reader("config.json", json.dumps(CONFIG).encode(), _model_config),
    Reader("model.safetensors", struct.pack("<Q", len(ENTRY)) + ENTRY + bytes(4), _weights),
    Reader("model.safetensors.index.json", json.dumps({"weight_map": {"a": "shard"}}).encode(), _weights),
    Reader("flax_model.msgpack", b"\x81\xa1a\xc7\x11\x01\x93\x91\x01\xa7float32\xc4\x04\0\0\0\0", _weights),
    Reader("run.json", json.dumps(RUN).encode(), _run_config),
    Reader("plan.json", json.dumps(PLAN).encode(), _plan),
    Reader("3/manifest.json", json.dumps(MANIFEST).encode(), _manifest),
    Reader("tokenizer.json", json.dumps(TOKENIZER).encode(), _tokenizer),
    Reader("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", _vocabulary),
    Reader("input.jsonl", b'{"text": "a"}\n{"text": "b"}\n', _lines),
    Reader("overrides", b"seed=3\noptim.learning_rate=1e-3\ntask.labels=O,B-X\nevals.validation.every=2", _overrides),
)
WORDS = ("{", "}", "[", "]", '":', '"', ",", "null", "true", "NaN", "1e999", "-1", "99999999999999999999", "\\ud800", "\\u0000", "\ufeff", "\r\n", "\t",
         "O", "B-PER", "E-X", "S-", "-DOCSTART-", '"type"', "flaxft.tasks.base", '"F32"', '"shape"', '"data_offsets"', "##", "['", "', '", "array(",
         "...", ";", "|", "sep=", "\\\"")  # fmt: skip
DICTIONARY = [word.encode() for word in WORDS] + [b"\xff", b"\0", b"\x1f\x8b", b"PK\x03\x04"]


def problem(reader: Reader, content: bytes, folder: Path) -> tuple[str, str] | None:
    """(where it arose, the error) if the reader raises anything but UserError; `folder` takes the file."""
    from flaxft.errors import UserError

    file = folder / reader.file.replace("/", "-").replace(".", "_") / reader.file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    try:
        reader.read(file)
    except UserError as error:
        if "\n" in str(error):
            return f"{reader.file}: a message of several lines", str(error)
    except Exception as error:  # noqa: BLE001 (it is what is looked for)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/flaxft/" in frame.filename]
        at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside flaxft"
        return f"{reader.file}: {type(error).__name__} at {at}", str(error)[:200]
    return None


def fuzz(seconds: int) -> None:
    """In a process of its own, which libFuzzer ends. The first byte of an input says which reader it is for."""
    import atheris

    with atheris.instrument_imports(include=["flaxft"]):
        readers = [f"data.{file.stem}" for file in (ROOT / "flaxft" / "data").glob("*.py") if file.stem != "__init__"]
        for module in ("command", "config", "checkpoint", "predict", *readers, "models.hf", "models.weights", "models.bert", "tasks.token_classification"):
            importlib.import_module(f"flaxft.{module}")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None, prefix="fuzz-"))
    seeds = folder / "seeds"
    seeds.mkdir()
    for i, reader in enumerate(READERS):
        (seeds / str(i)).write_bytes(bytes([i]) + reader.seed)
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in DICTIONARY)
    (folder / "dictionary").write_text("".join(f'"{word}"\n' for word in quoted))
    seen: set[str] = set()

    def one(data: bytes) -> None:
        if data:
            reader = READERS[data[0] % len(READERS)]
            found = problem(reader, data[1:], folder)
            if found and found[0] not in seen:
                seen.add(found[0])
                print(json.dumps({"where": found[0], "error": found[1], "input": repr(data[1:])[:300]}), flush=True)

    options = [f"-max_total_time={seconds}", "-max_len=600", f"-dict={folder / 'dictionary'}", "-print_final_stats=1", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *options, str(seeds)], one)
    atheris.Fuzz()


def main(seconds: int) -> int:
    command = [sys.executable, __file__, "--child", str(seconds)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    findings = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for finding in findings:
        print(f"{finding['where']}\n  {finding['error']}\n  {finding['input']}")
    stats: Mapping[str, str] = dict(line.removeprefix("stat::").split(":", 1) for line in done.stderr.splitlines() if line.startswith("stat::"))
    if "number_of_executed_units" not in stats:
        print(done.stderr[-3000:])
        return 1
    print(f"{stats['number_of_executed_units'].strip()} inputs in {seconds} s over {len(READERS)} readers, {len(findings)} findings")
    return int(bool(findings))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        fuzz(int(sys.argv[2]))
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 60))
