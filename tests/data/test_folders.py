"""Several files as one source: globs, folders, lists of paths, and what `datasets` leaves on a disk."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from flaxft.data import arrow
from flaxft.data.folders import files_of
from flaxft.data.source import open_source, read_records
from flaxft.errors import UserError

FEATURES = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
TABLE = pa.table(
    {"text": ["a b", "c d", "e"], "label": [1, 0, -1]},
    schema=pa.schema([("text", pa.string()), ("label", pa.int64())], metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})}),
)
ROWS = [{"text": "a b", "label": "yes"}, {"text": "c d", "label": "no"}, {"text": "e", "label": None}]


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"text,label\n{text},x\n")
    return file


def texts(path, split="train") -> list[str]:
    return [record["text"] for record in open_source(path if isinstance(path, list | tuple) else str(path), split=split)]


def save_to_disk(folder: Path, *tables: pa.Table) -> None:
    """As `datasets` writes it: Arrow streams beside state.json."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(tables):05}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], "_fingerprint": "x"}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def refused(path, split="train") -> str:
    with pytest.raises(UserError) as caught:
        open_source(str(path), split=split)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_glob_reads_its_files_in_order(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="flaxft")
    for name in ("part-10.csv", "part-2.csv", "part-1.csv", "other.csv"):
        write(tmp_path / name, name)
    assert texts(tmp_path / "part-*.csv") == ["part-1.csv", "part-2.csv", "part-10.csv"]
    assert caplog.messages == [f"{tmp_path}/part-*.csv: 3 files are read, {tmp_path}/part-1.csv to {tmp_path}/part-10.csv"]
    source = open_source(str(tmp_path / "part-*.csv"), split="train")
    assert [source.where(i) for i in range(3)] == [f"{tmp_path}/part-{i}.csv:2" for i in (1, 2, 10)]
    assert source.name == str(tmp_path / "part-*.csv")
    assert texts(tmp_path / "**" / "part-?.csv") == ["part-1.csv", "part-2.csv"]
    assert refused(tmp_path / "no-*.csv") == f"{tmp_path}/no-*.csv: no file matches; correct the pattern, or look what '{tmp_path}' holds"


def test_paths_in_a_list_or_with_commas(tmp_path):
    a, b = write(tmp_path / "a.csv", "1"), write(tmp_path / "b.csv", "2")
    assert texts([str(b), str(a)]) == ["2", "1"]
    assert texts((str(a), str(tmp_path / "b*.csv"))) == ["1", "2"]
    assert texts(f"{a},{b}") == texts(f"{a}, {b}") == ["1", "2"]
    odd = write(tmp_path / "a,[b]{}.csv", "3")
    assert texts(odd) == ["3"]
    assert open_source(str(odd), split="train").where(0) == f"{odd}:2"
    assert refused(f"{a},{tmp_path}/c.csv").startswith(f"{tmp_path}/c.csv: no such file")


def test_a_folder_of_files(tmp_path):
    for name in ("b.csv", "a.csv", "deep/c.csv", ".hidden.csv", "_SUCCESS", "_temporary/d.csv", "README.md", "LICENSE.txt"):
        write(tmp_path / name, name)
    assert texts(tmp_path) == ["a.csv", "b.csv", "deep/c.csv"]
    write(tmp_path / "d.tsv", "x")
    line = refused(tmp_path)
    assert line.startswith(f"{tmp_path}: is a directory of files of several kinds (3 .csv, 1 .tsv); name those to read by a glob: {tmp_path}/*.csv")


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train.csv", "dev.csv", "test.csv"),
        ("data/train-00000-of-00001.csv", "data/validation-00000-of-00001.csv", "data/test-00000-of-00001.csv"),
        ("train/x.csv", "val/x.csv", "test/x.csv"),
        ("tickets_train.csv", "tickets_valid.csv", "tickets_eval.csv"),
        ("en.train.csv.gz", "en.devel.csv", "en.TEST.csv"),
    ],
)
def test_a_folder_of_splits(train, validation, test, tmp_path):
    import gzip

    for name in (train, validation, test):
        file = write(tmp_path / name, name)
        if name.endswith(".gz"):
            file.write_bytes(gzip.compress(file.read_bytes()))
    write(tmp_path / "contest.csv", "no split")
    assert [texts(tmp_path, split) for split in ("train", "validation", "test")] == [[train], [validation], [test]]
    assert [texts(f"{tmp_path}#test", split) for split in ("train", "dev")] == [[test]] * 2


def test_a_folder_without_the_split_says_which_it_has(tmp_path):
    write(tmp_path / "test_tickets.csv", "a")
    assert refused(tmp_path) == f"{tmp_path}: no split 'train'; found test; name one as {tmp_path}#test"
    with pytest.raises(UserError, match=r"several splits; found test"):
        next(read_records(str(tmp_path)))
    assert [place for place, _ in read_records(f"{tmp_path}#test")] == [f"{tmp_path}/test_tickets.csv:2"]


def test_files_without_records_among_others(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n")
    assert "no records; expected at least one row below the header" in refused(tmp_path)
    write(tmp_path / "b.csv", "x")
    assert texts(tmp_path) == ["x"]
    (tmp_path / "c.csv").write_text("text,label\nx\n")
    assert refused(tmp_path).startswith(f"{tmp_path}/c.csv:2: found 1 cell(s), expected 2")


def test_the_fingerprint_is_of_the_contents(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "one" / f"{name}.csv", name)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first = open_source(str(tmp_path / "one"), split="train")
    assert open_source(str(tmp_path / "one"), split="train") is first
    assert open_source(str(tmp_path / "two"), split="train").fingerprint == first.fingerprint
    assert open_source(str(tmp_path / "one/*.csv"), split="test").fingerprint == first.fingerprint
    assert open_source(str(tmp_path / "one"), split="train", max_examples=1).fingerprint != first.fingerprint
    write(tmp_path / "one" / "b.csv", "c")
    again = open_source(str(tmp_path / "one"), split="train")
    assert again.fingerprint != first.fingerprint
    assert [record["text"] for record in again] == ["a", "c"]
    assert [record["text"] for record in first] == ["a", "b"]


def test_max_examples_over_several_files(tmp_path):
    paths = [str(write(tmp_path / f"{name}.csv", name)) for name in "abc"]
    assert [record["text"] for record in open_source(paths, split="train", max_examples=2)] == ["a", "b"]
    assert [record["text"] for _, record in read_records(paths)] == ["a", "b", "c"]


# ---- Arrow, and what `datasets` writes ----


def test_arrow_files_have_names_of_class_labels(tmp_path):
    pq.write_table(TABLE, tmp_path / "a.parquet")
    feather.write_feather(TABLE, tmp_path / "a.feather")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)
    shutil.copy(tmp_path / "a.feather", tmp_path / "without-suffix")
    for name in ("a.parquet", "a.feather", "a.arrow", "without-suffix"):
        source = open_source(str(tmp_path / name), split="train")
        assert list(source) == ROWS, name
        assert source.where(2) == f"{tmp_path / name}: row 2"


@pytest.mark.parametrize(
    ("feature", "value", "named"),
    [
        ({"_type": "List", "feature": FEATURES["label"]}, [1, 0, -1], ["yes", "no", None]),
        ({"_type": "Sequence", "feature": FEATURES["label"], "length": -1}, [[1], [0]], [["yes"], ["no"]]),
        ([FEATURES["label"]], [0, 1], ["no", "yes"]),
        ({"kind": FEATURES["label"], "text": FEATURES["text"]}, {"kind": 1, "text": "a"}, {"kind": "yes", "text": "a"}),
        ({"_type": "Sequence", "feature": {"kind": FEATURES["label"]}}, {"kind": [1, 0]}, {"kind": ["yes", "no"]}),
        ([{"kind": FEATURES["label"]}], [{"kind": 1}], [{"kind": "yes"}]),
        (FEATURES["label"], 7, 7),
        (FEATURES["label"], None, None),
        ({"_type": "ClassLabel"}, 1, 1),
        ({"_type": "ClassLabel", "names": 3}, 1, 1),
        ("ClassLabel", 1, 1),
    ],
)
def test_class_labels_in_lists_and_objects(feature, value, named, tmp_path):
    if isinstance(value, list) and isinstance(value[0], list):
        feature = {"_type": "List", "feature": feature}
    table = pa.table({"label": [value]}).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": {"label": feature}}})})
    pq.write_table(table, tmp_path / "a.parquet")
    assert list(open_source(str(tmp_path / "a.parquet"), split="train")) == [{"label": named}]


@pytest.mark.parametrize("metadata", ["no JSON", "[]", "{}", '{"info": 3}', '{"info": {"features": [1]}}', "[" * 100_000])
def test_a_schema_that_says_something_else(metadata, tmp_path):
    pq.write_table(TABLE.replace_schema_metadata({"huggingface": metadata}), tmp_path / "a.parquet")
    assert open_source(str(tmp_path / "a.parquet"), split="train")[0] == {"text": "a b", "label": 1}


def test_save_to_disk(tmp_path):
    save_to_disk(tmp_path / "saved", TABLE.slice(0, 2), TABLE.slice(2))
    source = open_source(str(tmp_path / "saved"), split="train")
    assert list(source) == ROWS
    assert source.where(2) == f"{tmp_path}/saved/data-00001-of-00002.arrow: row 0"


def test_save_to_disk_of_splits(tmp_path):
    for split, table in (("train", TABLE), ("validation", TABLE.slice(1)), ("odd", TABLE.slice(2))):
        save_to_disk(tmp_path / split, table)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "odd"]}))
    assert [len(open_source(str(tmp_path), split=split)) for split in ("train", "validation", "dev")] == [3, 2, 2]
    assert len(open_source(f"{tmp_path}#odd", split="train")) == 1
    assert refused(tmp_path, "test") == f"{tmp_path}: no split 'test'; found train, validation, odd; name one as {tmp_path}#train"


def test_what_datasets_itself_saves(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"]))
    made = datasets.Dataset.from_dict(TABLE.to_pydict(), features=features)
    datasets.DatasetDict(train=made, test=made.select([1])).save_to_disk(tmp_path / "saved")
    made.to_parquet(tmp_path / "a.parquet")
    assert list(open_source(str(tmp_path / "saved"), split="train")) == ROWS
    assert list(open_source(str(tmp_path / "saved"), split="test")) == ROWS[1:2]
    assert list(open_source(str(tmp_path / "a.parquet"), split="train")) == ROWS


def test_damaged_arrow_and_folders(tmp_path):
    save_to_disk(tmp_path / "saved", TABLE)
    data = tmp_path / "saved" / "data-00000-of-00001.arrow"
    data.write_bytes(data.read_bytes()[:500])
    assert f"{data}: not a whole Arrow file" in refused(tmp_path / "saved")
    data.write_bytes(b"")
    assert f"{data}: the file is empty (0 bytes)" in refused(tmp_path / "saved")
    data.unlink()
    assert f"{data}: no such file" in refused(tmp_path / "saved")
    state = tmp_path / "saved" / "state.json"
    for content, words in [
        ("{", "cannot be read"),
        ("[]", "names no data files"),
        ('{"_data_files": [{"filename": "../a.arrow"}]}', "names the file '../a.arrow', which is not in this folder"),
        ('{"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [{"filename": "i.arrow"}]}', "saved by an old version of datasets"),
    ]:
        state.write_text(content)
        assert words in refused(tmp_path / "saved")


def test_bombs_of_rows(tmp_path, monkeypatch):
    """A value that is counted and not repeated, and values that are not there."""
    monkeypatch.setattr(arrow, "MANY", 1000)
    monkeypatch.setattr(arrow, "RATIO", 10)
    pq.write_table(pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int8()), ["a"])}), tmp_path / "a.parquet")
    assert "100,000 rows in " in refused(tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("text", pa.null())])) as writer:
        writer.write_table(pa.table({"text": pa.nulls(1_000_000)}))
    assert "1,000,000 rows in " in refused(tmp_path / "a.arrow")


def test_a_path_that_is_a_file_is_itself(tmp_path):
    file = write(tmp_path / "a*.csv", "star")
    assert files_of(str(file), split="train") == (str(file),)
    assert files_of("a\0b", split="train") == ("a\0b",)
