"""benchmarks/own_data.py: its cut files and its table."""

from __future__ import annotations

import csv
import json

from benchmarks.own_data import lowest, table, write

ROWS = [{"body": f"text {i}, with a comma", "queue": str(i % 3)} for i in range(50)]


def test_fewer_records_are_some_of_the_more():
    few, more = lowest(ROWS, 10), lowest(ROWS, 30)
    assert len(few) == 10 and len(more) == 30
    assert [row for row in more if row in few] == few, "in the order of the file"
    assert lowest(ROWS, None) == lowest(ROWS, 99) == ROWS


def test_files_are_as_users_have_them(tmp_path):
    write(ROWS, tmp_path / "a.csv")
    write(ROWS, tmp_path / "a.jsonl")
    write([{"tokens": ["anna", "lives"], "ner_tags": ["B-PER", "O"]}], tmp_path / "a.conll")
    assert list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines())) == ROWS
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == ROWS
    assert (tmp_path / "a.conll").read_text() == "anna\tB-PER\nlives\tO\n\n"


def test_the_table_has_a_row_a_data_set_and_a_column_an_encoder():
    def run(encoder, seed, accuracy):
        baselines = {"test": {"majority": {"accuracy": 0.1}, "TF-IDF + logistic regression": {"accuracy": 0.8}}}
        return {"row": "banking77", "encoder": encoder, "seed": seed, "scores": {"test": {"accuracy": accuracy}}, "baselines": baselines}

    lines = table([run("small", 1, 0.7), run("small", 2, 0.9), run("large", 1, 0.95)]).splitlines()
    assert lines[0].endswith("| small | large |")
    assert lines[2:] == ["| banking77, 5000 | accuracy | 0.100 | 0.800 | 0.800 ± 0.141 | 0.950 |"]
