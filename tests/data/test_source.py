"""Files become records, and every file that is not right gets one line that names it."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flaxft.data import content as content_module
from flaxft.data import spool
from flaxft.data.formats import NAMES
from flaxft.data.source import KEPT, checked, open_source, read_records
from flaxft.errors import UserError

REAL = Path(__file__).parents[3] / "shared" / "data"


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


SENTENCES = [{"0": ["Ada", "wrote"], "1": ["B-PER", "O"]}, {"0": ["Hi"], "1": ["O"]}]
ROWS = [{"text": "NA", "label": "null"}, {"text": "b", "label": "c"}]

# name, content, records
GOOD = {
    "tabs": ("a.conll", "Ada\tB-PER\nwrote\tO\n\nHi\tO\n", SENTENCES),
    "spaces": ("a.bio", "Ada  B-PER\n wrote O \n\nHi O", SENTENCES),
    "blank lines that hold tabs and spaces": ("a.iob", "\n\t\nAda\tB-PER\nwrote\tO\n \t \n\n\nHi\tO\n\n\n", SENTENCES),
    "CRLF and BOM": ("a.iob2", codecs.BOM_UTF8 + b"Ada\tB-PER\r\nwrote\tO\r\n\r\nHi\tO\r\n", SENTENCES),
    "DOCSTART": ("a.txt", "-DOCSTART- -X-\n\nAda B-PER\nwrote O\n\n-DOCSTART-\n\nHi O\n", SENTENCES),
    "gzip": ("a.conll.gz", gzip.compress(b"Ada\tB-PER\nwrote\tO\n\nHi\tO\n"), SENTENCES),
    "upper-case suffix": ("a.CONLL", "Ada\tB-PER\nwrote\tO\n\nHi\tO\n", SENTENCES),
    "unknown suffix, columns": ("a.annotated.gz", gzip.compress(b"Ada\tB-PER\nwrote\tO\n\nHi\tO\n"), SENTENCES),
    "no suffix, columns": ("train", "-DOCSTART-\n\nAda B-PER\nwrote O\n\nHi O\n", SENTENCES),
    "blanks around a cell": ("a.conll", "Ada \tB-PER \r\n wrote\tO \r\n \r\nHi\t O\r\n", SENTENCES),
    "four columns": ("a.conll", "U.N. NNP I-NP I-ORG\n", [{"0": ["U.N."], "1": ["NNP"], "2": ["I-NP"], "3": ["I-ORG"]}]),
    "a trailing tab on each line": ("a.conll", "a\tO\t\nb\tO\t\n", [{"0": ["a", "b"], "1": ["O", "O"]}]),
    "# is a token": ("a.conll", "#\tO\nb\tO\n", [{"0": ["#", "b"], "1": ["O", "O"]}]),
    "tokens of odd characters": (
        "a.conll",
        "\u200b\tO\n\u00a0\tO\na\u2028b\tO\nc\u0085d\tO\n\ufeff\tO\nx y\tO\n\u00adz O\n",
        [{"0": ["\u200b", "\u00a0", "a\u2028b", "c\u0085d", "\ufeff", "x y", "\u00adz"], "1": ["O"] * 7}],
    ),
    "jsonl": (
        "a.jsonl",
        '{"text": "NA", "label": null, "n": [1, 2.5]}\n\n{"text": "\\ud83d\\ude00"}\r\n',
        [{"text": "NA", "label": None, "n": [1, 2.5]}, {"text": "😀"}],
    ),
    "json lines": ("a.json", '{"a": "null"}\n{"a": 1}', [{"a": "null"}, {"a": 1}]),
    "json array": ("a.json", '\n[\n {"a": 1},\n {"a":\n [2]} ]\n', [{"a": 1}, {"a": [2]}]),
    "json array in jsonl": ("a.jsonl.gz", gzip.compress(b'[{"a": 1}]'), [{"a": 1}]),
    "unknown suffix, jsonl": ("a.data", '{"a": 1}\n', [{"a": 1}]),
    "csv": ("a.csv", "text,label\nNA,null\nb,c\n", ROWS),
    "csv, CRLF, BOM, quotes": ("a.csv", codecs.BOM_UTF8 + b'text,label\r\n"N""A\r\nx,y",\r\n', [{"text": 'N"A\r\nx,y', "label": ""}]),
    "csv of one long cell": ("a.csv", "text\n" + "x" * 1_000_000 + "\n", [{"text": "x" * 1_000_000}]),
    "tsv": ("a.tsv", "text\tlabel\nNA\tnull\n\nb\tc\n", ROWS),
    "parquet": ("a.parquet", parquet(pa.table({"text": ["NA", "b"], "label": ["null", "c"]})), ROWS),
    "unknown suffix, parquet": ("a.0000", parquet(pa.table({"x": [1, None]})), [{"x": 1}, {"x": None}]),
}


@pytest.mark.parametrize("case", GOOD)
def test_reads(case: str, tmp_path: Path):
    name, content, records = GOOD[case]
    path = write(tmp_path, name, content)
    source = open_source(path, split="train")
    assert list(source) == records
    assert len(source) == len(records)
    assert source[0] == records[0]
    assert source.name == path
    assert len(source.fingerprint) == 64


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("case", GOOD)
def test_reads_in_blocks_from_a_file_without_a_name(case: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A large file is copied, mapped and read block by block."""
    name, content, records = GOOD[case]
    path = write(tmp_path, name, content)
    whole = open_source(path, split="train")
    monkeypatch.setattr(content_module, "BLOCK", block)
    monkeypatch.setattr(spool, "IN_MEMORY", 0)
    source = open_source(path, split="train")
    assert list(source) == records
    assert [source.where(i) for i in range(len(source))] == [whole.where(i) for i in range(len(whole))]
    assert source.fingerprint == whole.fingerprint


# name, content, what the one line says; {} is the path
BAD = {
    "0 bytes": ("a.conll", b"", "{}: the file is empty (0 bytes)"),
    "0 bytes in gzip": ("a.conll.gz", gzip.compress(b""), "{}: the file is empty (0 bytes after gzip)"),
    "blank lines alone": ("a.conll", "\n\t\n", "{}: no records"),
    "header alone": ("a.csv", "text,label\n", "{}: no records; expected at least one row below the header"),
    "empty array": ("a.json", "[]", "{}: no records"),
    "no rows": ("a.parquet", parquet(pa.table({"a": pa.array([], pa.string())})), "{}: no records"),
    "Latin-1": ("a.conll", "a\tO\nM\u00fcnchen\tB-LOC\n".encode("latin-1"), "{}:2: byte 0xfc is not UTF-8"),
    "Latin-1 behind a BOM": ("a.csv", codecs.BOM_UTF8 + b"text\n\nb\xfc\n", "{}:3: byte 0xfc is not UTF-8"),
    "UTF-16": ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), "{}:1: the text is UTF-16; save it as UTF-8"),
    "UTF-16 without BOM": ("a.jsonl", '{"a": 1}\n'.encode("utf-16-le"), "{}:1: a NUL byte"),
    "NUL": ("a.conll", "a\tO\n\nb\0\tO\n", "{}:3: a NUL byte"),
    "lone CR": ("a.conll", "a\tO\rb\tO\r", "{}:1: the line ends are lone CR"),
    "truncated gzip": ("a.conll.gz", gzip.compress(b"a\tO\n" * 100)[:-9], "{}: the gzip data is cut off or corrupt"),
    "corrupt gzip": ("a.conll.gz", b"\x1f\x8b\x08\x00" + b"\xff" * 40, "{}: the gzip data is cut off or corrupt"),
    "wrong checksum": ("a.csv.gz", gzip.compress(b"a\nb\n")[:-8] + bytes(8), "{}: the gzip data is cut off or corrupt"),
    "no gzip": ("a.conll.gz", "a\tO\n", "{}: ends in .gz but holds no gzip data"),
    "unknown suffix, text": (
        "a.data",
        "A line of text.\nAnd another here.\n",
        "{}: cannot tell the format from the suffix or the content; set format",
    ),
    "unknown suffix, blank": ("a.data", "\n", "{}: cannot tell the format"),
    "one column": ("a.conll", "a\n", "{}:1: found 1 column(s) in 'a', expected 2"),
    "fewer columns": ("a.conll", "a\tO\n\nb\tO\nc\n", "{}:4: found 1 column(s) in 'c', expected 2"),
    "an empty label": ("a.conll", "a\tO\nb\t\n", "{}:2: found 1 column(s)"),
    "more columns": ("a.txt", "a O\nNew York B-LOC\n", "{}:2: found 3 column(s) in 'New York B-LOC', expected 2"),
    "NBSP does not separate": ("a.conll", "a\u00a0O\n", "{}:1: found 1 column(s)"),
    "bad JSON": ("a.jsonl", '{"a": 1}\n\n{"a": }\n', "{}:3: bad JSON: Expecting value"),
    "cut JSON": ("a.jsonl", '{"a": 1}\n{"a": "x', "{}:2: bad JSON: Unterminated string"),
    "text behind JSON": ("a.jsonl", '{"a": 1} {"a": 2}\n', "{}:1: more text behind the JSON object"),
    "no object": ("a.jsonl", '{"a": 1}\n"a"\n', "{}:2: found a JSON str, expected an object"),
    "duplicate key": ("a.jsonl", '{"a": 1}\n{"b": {"a": 1, "a": 2}}\n', "{}:2: bad JSON: the key 'a' stands twice in one object"),
    "NaN": ("a.jsonl", '{"a": 1}\n{"a": NaN}\n', "{}:2: bad JSON: NaN is no JSON number"),
    "Infinity": ("a.jsonl", '{"a": -Infinity}\n', "{}:1: bad JSON: -Infinity is no JSON number"),
    "1e999": ("a.jsonl", '{"a": 1e999}\n', "{}:1: bad JSON: 1e999 is beyond the range of a float"),
    "half a surrogate pair": ("a.jsonl", '{"a": "\\ud800"}\n', "{}:1: bad JSON: 'utf-8' codec can't encode character"),
    "depth bomb": ("a.jsonl", '{"a": ' + "[" * 100_000 + "\n", "{}:1: bad JSON: maximum recursion depth"),
    "trailing comma in an array": ("a.json", '[\n{"a": 1},\n]\n', "{}:3: bad JSON: Expecting value"),
    "trailing comma in an object": ("a.json", '{"a": 1,}\n', "{}:1: bad JSON: Expecting property name"),
    "cut array": ("a.json", '[\n{"a": 1}\n', "{}:3: expected ',' or ']' behind an object"),
    "NaN in an array": ("a.json", '[\n{"a": 1},\n{"a": NaN}]', "{}:3: bad JSON: NaN is no JSON number"),
    "bad JSON in an array": ("a.json", '[\n{"a": 1},\n{"a":\n x}]', "{}:4: bad JSON: Expecting value"),
    "array of strings": ("a.json", '["a"]', "{}:1: found a JSON str, expected an object"),
    "text behind an array": ("a.json", '[{"a": 1}]\n[{"a": 1}]', "{}:2: more text behind the JSON array"),
    "ragged csv": ("a.csv", 'a,b\n"x\ny",1\nx,y,1\n', "{}:4: found 3 cell(s), expected 2 as in the header"),
    "unterminated quote": ("a.csv", 'a,b\nx,1\n"y,1\nz,1\n', "{}:3: unexpected end of data"),
    "text behind a quote": ("a.csv", 'a,b\n"x"y,1\n', "{}:2: ',' expected after '\"'"),
    "duplicate header": ("a.csv", "a,b,a\n1,2,3\n", "{}:1: the column name(s) 'a' stand more than once"),
    "no Parquet": ("a.parquet", b"PAR1 and then nothing", "{}: not a whole Parquet file"),
    "cut Parquet": ("a.parquet", parquet(pa.table({"a": [1, 2]}))[:-20], "{}: not a whole Parquet file"),
}


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(content_module, "BLOCK", block)
    monkeypatch.setattr(spool, "IN_MEMORY", 0 if block == 1 else spool.IN_MEMORY)
    name, content, message = BAD[case]
    path = write(tmp_path, name, content)
    refused(message.format(path), path)


def refused(message: str, path: str, **arguments) -> None:
    with pytest.raises(UserError) as caught:
        open_source(path, split="train", **arguments)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(str(UserError(message)))


def test_refuses_paths(tmp_path: Path):
    path = write(tmp_path, "train.conll", "a\tO\n")
    refused(f"{tmp_path}/trian.conll: no such file; correct the path; did you mean 'train.conll'?", f"{tmp_path}/trian.conll")
    refused(f"{tmp_path}/none/a.conll: no such file, nor is there a folder '{tmp_path}/none'", f"{tmp_path}/none/a.conll")
    (tmp_path / "empty").mkdir()
    refused(f"{tmp_path}/empty: is a directory without a file of a known kind", f"{tmp_path}/empty")
    refused(f"{path}/a.conll: ", f"{path}/a.conll")
    refused("a\0b: cannot be read", "a\0b")


def test_refuses_a_file_without_the_right_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # root may read everything
    refused("a.conll: may not be read", "a.conll")


def test_refuses_arguments(tmp_path: Path):
    path = write(tmp_path, "a.csv", "a\nb\n")
    refused(f"format='cvs' is unknown; use one of {', '.join(NAMES)}; did you mean 'csv'?", path, format="cvs")
    refused("max_examples=0: give at least 1", path, max_examples=0)
    refused(f"{path}: comment='#' is for column files, but this one is read as csv", path, comment="#")
    refused("hub:a/b: format and comment are for files", "hub:a/b", format="csv")


def test_format_wins_over_the_suffix_and_comments_stand_before_sentences(tmp_path: Path):
    path = write(tmp_path, "NER-de-dev.tsv", "# source one\n1\tBonn\tB-LOC\n#\tist\tO\n\n#\tsource\t2\n1\tHi\tO\n")
    source = open_source(path, split="dev", format="columns", comment="#")
    assert list(source) == [{"0": ["1", "#"], "1": ["Bonn", "ist"], "2": ["B-LOC", "O"]}, {"0": ["1"], "1": ["Hi"], "2": ["O"]}]
    assert source.where(1) == f"{path}:6"


def test_where_names_the_first_line(tmp_path: Path):
    columns = open_source(write(tmp_path, "a.conll", "-DOCSTART-\n\na O\nb O\n\n\nc O\n"), split="train")
    assert [columns.where(i) for i in range(2)] == [f"{tmp_path}/a.conll:{line}" for line in (3, 7)]
    table = open_source(write(tmp_path, "a.csv", 'x\n\n"1\n2"\n3\n'), split="train")
    assert [table.where(i) for i in range(2)] == [f"{tmp_path}/a.csv:{line}" for line in (3, 5)]
    array = open_source(write(tmp_path, "a.json", '[{"a": 1},\n\n{"a":\n2}, {"a": 3}]'), split="train")
    assert [array.where(i) for i in range(3)] == [f"{tmp_path}/a.json:{line}" for line in (1, 3, 4)]
    lines = open_source(write(tmp_path, "a.jsonl", '\n{"a": 1}\n\n{"a": 2}\n'), split="train")
    assert [lines.where(i) for i in range(2)] == [f"{tmp_path}/a.jsonl:{line}" for line in (2, 4)]
    rows = open_source(write(tmp_path, "a.parquet", parquet(pa.table({"a": [1, 2]}))), split="train")
    assert rows.where(1) == f"{tmp_path}/a.parquet: row 1"


def test_read_records_gives_each_with_its_place(tmp_path: Path):
    path = write(tmp_path, "a.jsonl", '{"a": 1}\n\n{"a": 2}\nbroken\n')
    records = read_records(path)
    assert [next(records), next(records)] == [(f"{path}:1", {"a": 1}), (f"{path}:3", {"a": 2})]
    with pytest.raises(UserError, match=r"a.jsonl:4: bad JSON"):
        next(records)
    with pytest.raises(UserError, match=r"b.csv: no records; expected at least one row below the header"):
        list(read_records(write(tmp_path, "b.csv", "a\n")))


def test_max_examples_reads_no_further(tmp_path: Path):
    path = write(tmp_path, "a.jsonl", '{"a": 1}\n{"a": 2}\nbroken\n')
    assert list(open_source(path, split="train", max_examples=2)) == [{"a": 1}, {"a": 2}]
    refused(f"{path}:3: bad JSON", path, max_examples=3)


# ---- SQuAD ----

ANSWER = {"text": "Ada", "answer_start": 0}
QAS = [{"id": "q1", "question": "Who?", "answers": [ANSWER, ANSWER]}, {"id": "q2", "question": "When?", "answers": [], "is_impossible": True}]
SQUAD = {"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": "Ada wrote.", "qas": QAS}]}, {"paragraphs": []}]}
QUESTIONS = [
    {"id": "q1", "title": "T", "context": "Ada wrote.", "question": "Who?", "answers": {"text": ["Ada", "Ada"], "answer_start": [0, 0]}},
    {"id": "q2", "title": "T", "context": "Ada wrote.", "question": "When?", "answers": {"text": [], "answer_start": []}, "is_impossible": True},
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(SQUAD)),
        ("a.json", json.dumps(SQUAD, indent=2)),
        ("a.JSON", codecs.BOM_UTF8 + b" \n" + json.dumps(dict(reversed(SQUAD.items()))).encode() + b"\n"),
        ("a.json.gz", gzip.compress(json.dumps({"version": 2.0, "final": True, "note": None} | SQUAD).encode())),
    ],
)
def test_squad_files_are_known_by_how_they_begin(tmp_path: Path, name: str, content: str | bytes):
    source = open_source(write(tmp_path, name, content), split="train")
    assert list(source) == QUESTIONS
    assert source.where(1) == f"{tmp_path}/{name}: article 1, question q2"
    assert len(open_source(source.name, split="train", max_examples=1)) == 1


def test_squad_in_other_files(tmp_path: Path):
    path = write(tmp_path, "dev-v2.0", json.dumps(SQUAD, indent=1))
    assert list(open_source(path, split="train")) == QUESTIONS
    assert list(open_source(path, split="train", format="squad")) == QUESTIONS
    line = write(tmp_path, "a.json", json.dumps(SQUAD))
    assert list(open_source(line, split="train", format="jsonl")) == [SQUAD]
    without = json.loads(json.dumps(SQUAD))
    del without["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    assert "answers" not in open_source(write(tmp_path, "b.json", json.dumps(without)), split="test")[0]


@pytest.mark.parametrize("record", [{"data": [1, 2]}, {"data": "x"}, {"n": {"data": [{}]}, "data": [{}]}, {"a": [], "data": []}])
def test_a_column_of_the_name_data_makes_no_squad_file(tmp_path: Path, record: dict):
    assert list(open_source(write(tmp_path, "a.json", f"{json.dumps(record)}\n" * 2), split="train")) == [record] * 2


def broken(path: str, value: object) -> str:
    """The file with `value` at the place of the dotted path; without the place where it is None."""
    content = json.loads(json.dumps(SQUAD))
    *parents, last = path.split(".")
    holder = content
    for key in parents:
        holder = holder[int(key) if key.isdecimal() else key]
    holder[int(last) if last.isdecimal() else last] = value
    if value is None:
        del holder[last]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(SQUAD)[:-2], "{}:1: bad JSON: Expecting ',' delimiter; a SQuAD file is one JSON object"),
        (json.dumps(SQUAD) + "\n{}", "{}:2: more text behind the JSON object"),
        (broken("data", []), "{}: no records"),
        (broken("data.0.paragraphs", None), "{}: article 1: no list 'paragraphs'; expected SQuAD's layout"),
        (broken("data.1", 3), "{}: article 2: no list 'paragraphs'"),
        (broken("data.0.title", 3), "{}: article 1: no text 'title' but 3"),
        (broken("data.0.paragraphs.0.context", None), "{}: article 1, paragraph 1: no text 'context'"),
        (broken("data.0.paragraphs.0.qas", {}), "{}: article 1, paragraph 1: no list 'qas' but {{}}"),
        (broken("data.0.paragraphs.0.qas.0.id", None), "{}: article 1, paragraph 1: no text 'id'"),
        (broken("data.0.paragraphs.0.qas.1.question", ["?"]), "{}: article 1, question q2: no text 'question' but ['?']"),
        (broken("data.0.paragraphs.0.qas.0.answers", "Ada"), "{}: article 1, question q1: no list 'answers' but 'Ada'"),
        (broken("data.0.paragraphs.0.qas.0.answers.1", "Ada"), "{}: article 1, question q1: no text 'text'"),
        (broken("data.0.paragraphs.0.qas.0.answers.0.answer_start", 1.5), "{}: article 1, question q1: no number 'answer_start' but 1.5"),
        (broken("data.0.paragraphs.0.qas.1.is_impossible", "yes"), "{}: article 1, question q2: no true or false 'is_impossible' but 'yes'"),
    ],
)
def test_refuses_damaged_squad_files(tmp_path: Path, content: str, message: str):
    path = write(tmp_path, "a.json", content)
    refused(message.format(path), path)


@pytest.mark.skipif(not (REAL / "squad").is_dir(), reason="needs the real data in ../shared/data/squad and its like")
@pytest.mark.parametrize(
    ("name", "num_questions", "num_answers"),
    [("squad/dev-v1.1.json.gz", 10570, 34726), ("cmrc2018/cmrc2018_dev.json.gz", 3219, 9657), ("xquad/xquad.zh.json.gz", 1190, 1190)],
)
def test_squad_and_its_like(name: str, num_questions: int, num_answers: int):
    source = open_source(str(REAL / name), split="train")
    assert len(source) == num_questions
    assert sum(len(record["answers"]["text"]) for record in source) == num_answers
    assert len({record["id"] for record in source}) == num_questions


def test_fingerprint_depends_on_content_and_arguments_alone(tmp_path: Path):
    path = write(tmp_path, "a.conll", "a\tO\n\nb\tO\n")
    read = [
        open_source(path, split="train"),
        open_source(path, split="train", max_examples=1),
        open_source(path, split="train", comment="#"),
        open_source(write(tmp_path, "b.conll", "a\tO\n\nc\tO\n"), split="train"),
    ]
    assert len({source.fingerprint for source in read}) == 4
    again = open_source(write(tmp_path, "c.txt", "a\tO\n\nb\tO\n"), split="validation")
    assert again.fingerprint == read[0].fingerprint
    code = "import sys; from flaxft.data.source import open_source; print(open_source(sys.argv[1], split='train').fingerprint)"
    other = subprocess.run([sys.executable, "-c", code, path], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == read[0].fingerprint


def test_files_need_no_heavy_library(tmp_path: Path):
    path = write(tmp_path, "a.conll", "a\tO\n")
    code = """
import sys
from flaxft.data.source import open_source
open_source(sys.argv[1], split="train")
assert not {"datasets", "pyarrow", "huggingface_hub"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, path], cwd=Path(__file__).parents[2], check=True)


# Any text but half surrogates, NUL, and what separates: TAB and line ends.
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\r\n"), min_size=1)
TOKEN = CELL.filter(lambda token: not token.startswith("-DOCSTART-"))
LABEL = CELL.filter(lambda label: label.strip(" "))  # a blank last cell is a missing one
SENTENCE = st.lists(st.tuples(TOKEN, LABEL), min_size=1)


@given(sentences=st.lists(SENTENCE, min_size=1))
@example(sentences=[[("\u2028", "O"), (" ", "O"), ("\ufeff", "\u0085")], [("#", "\u00a0"), ("\x1c", "O")]])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_column_files_come_back_as_they_were(sentences: list[list[tuple[str, str]]], tmp_path: Path):
    text = "\n".join("".join(f"{token}\t{label}\n" for token, label in sentence) for sentence in sentences)
    path = write(tmp_path, "a.conll", codecs.BOM_UTF8 + text.encode())  # the first token may begin with U+FEFF itself
    records = [{str(i): [pair[i].strip(" ") or pair[i] for pair in sentence] for i in range(2)} for sentence in sentences]
    assert list(open_source(path, split="train")) == records


@given(rows=st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), CELL), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_csv_and_jsonl_come_back_as_they_were(rows: list[tuple[str, str]], tmp_path: Path):
    records = [{"text": text, "label": label} for text, label in rows]
    table, lines = tmp_path / "a.csv", tmp_path / "a.jsonl"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(records)
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert list(open_source(str(table), split="train")) == records
    assert list(open_source(str(lines), split="train")) == records


@pytest.mark.skipif(not (REAL / "wnut17").is_dir(), reason="needs the real data in ../shared/data/wnut17")
@pytest.mark.parametrize(
    ("name", "num_sentences", "num_tokens"),
    [("wnut17train.conll.gz", 3394, 62730), ("emerging.dev.conll.gz", 1009, 15733), ("emerging.test.annotated.gz", 1287, 23394)],
)
def test_wnut17(name: str, num_sentences: int, num_tokens: int):
    source = open_source(str(REAL / "wnut17" / name), split="train")
    assert len(source) == num_sentences
    assert sum(len(record["0"]) for record in source) == num_tokens
    assert {label[:2] for record in source for label in record["1"]} == {"O", "B-", "I-"}


def test_checked_names_the_place_of_what_a_check_refuses(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": ""}\n')
    source = open_source(str(tmp_path / "a.jsonl"), split="train")

    def not_empty(record):
        if not record["text"]:
            raise UserError("empty")

    assert checked(source, lambda record: record["text"]) is source
    with pytest.raises(UserError, match=r"a.jsonl:2: empty$"):
        checked(source, lambda record: record["text"], not_empty)


def test_a_file_is_read_once_as_long_as_it_stays_as_it_is(tmp_path):
    """A task looks for its labels where a run then reads: what takes long is not done twice. What changed is read anew, however fast."""
    path = write(tmp_path, "a.jsonl", '{"a": 1}\n')
    first = open_source(path, split="train")
    assert open_source(path, split="train") is first
    assert open_source(path, split="train", max_examples=1) is not first
    write(tmp_path, "a.jsonl", '{"a": 2}\n')
    assert list(open_source(path, split="train")) == [{"a": 2}]
    assert list(first) == [{"a": 1}]
    for i in range(KEPT):
        open_source(write(tmp_path, f"{i}.jsonl", '{"a": 3}\n'), split="train")
    assert open_source(path, split="train") is not first
