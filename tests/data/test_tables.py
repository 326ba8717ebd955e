"""Tables as people have them: other delimiters, no header, quotes as letters, lists in cells."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flaxft.data import content as content_module
from flaxft.data.cells import CutError, parse_list
from flaxft.data.source import open_source
from flaxft.errors import UserError

FILMS = [("good film with heart", "pos"), ("a dull, slow plot", "neg"), ("warm and funny", "pos"), ("not worth it", "neg"), ("nice acting", "pos")]
RECORDS = [{"text": text, "label": label} for text, label in FILMS]


def read(folder: Path, name: str, content: str, **fields) -> list:
    (folder / name).write_text(content, newline="")
    return list(open_source(str(folder / name), split="train", **fields))


def refused(folder: Path, name: str, content: str, **fields) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, name, content, **fields)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{folder / name}")
    return str(caught.value).removeprefix(f"{folder / name}")


def written(delimiter: str, rows=FILMS, header=("text", "label"), **options) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, **options).writerows([header, *rows])
    return stream.getvalue()


@pytest.fixture
def said(caplog) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="flaxft")
    return caplog


# ---- delimiters ----


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.CSV", "a.tsv.gz"])
@pytest.mark.parametrize(("delimiter", "called"), [(",", "commas"), (";", "semicolons"), ("|", "vertical bars"), ("\t", "TABs")])
def test_the_delimiter_is_what_header_and_records_agree_on(delimiter, called, name, tmp_path, said):
    content = written(delimiter).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert list(open_source(str(tmp_path / name), split="train")) == RECORDS
    is_own = delimiter == ("\t" if ".tsv" in name else ",")
    assert [line.endswith(f"the cells are separated by {called}") for line in said.messages] == ([] if is_own else [True])


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_a_delimiter_inside_quotes_does_not_count(delimiter, tmp_path):
    rows = [(f"one{delimiter} two, three", "pos"), ("a\nb", "neg")] * 3
    assert read(tmp_path, "a.csv", written(delimiter, rows)) == [{"text": text, "label": label} for text, label in rows]


def test_a_long_file_is_told_by_its_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(content_module, "HEAD", 200)
    rows = [(f"text {i}; with\na break and a, comma", "pos") for i in range(50)]
    assert read(tmp_path, "a.csv", written(";", rows)) == [{"text": text, "label": label} for text, label in rows]


@pytest.mark.parametrize("sep", ["sep=;\n", '"sep=;"\r\n'])
def test_excel_says_its_delimiter(sep, tmp_path):
    assert read(tmp_path, "a.csv", sep + written(";")) == RECORDS
    assert open_source(str(tmp_path / "a.csv"), split="train").where(0).endswith(":3")


def test_one_column_stays_one(tmp_path):
    texts = ["one, two", "three; four, five", "six | seven"]
    assert read(tmp_path, "a.tsv", "text\n" + "\n".join(texts) + "\n") == [{"text": text} for text in texts]
    assert read(tmp_path, "a.csv", "text\none;two\n") == [{"text": "one;two"}]


def test_one_odd_column_is_told_its_delimiter(tmp_path):
    line = refused(tmp_path, "a.csv", "text;label\ngood; and long;pos\nbad;neg\nso so;neg\n")
    assert line.startswith(":1: one column 'text;label', whose cells seem to be separated by semicolons, but there are 2 in the header and 3 in 'good;")
    assert "put a cell that holds ';' in quotes" in line


def test_blanks_behind_the_delimiter(tmp_path):
    assert read(tmp_path, "a.csv", 'text, label\n"one, two", "pos"\nthree, neg\n') == [{"text": "one, two", "label": "pos"}, {"text": "three", "label": "neg"}]
    assert read(tmp_path, "b.csv", " text ,label \none,pos\ntwo, neg\n") == [{"text": "one", "label": "pos"}, {"text": "two", "label": " neg"}]


def test_what_a_spreadsheet_leaves_is_left_out(tmp_path, said):
    assert read(tmp_path, "a.csv", "text,label,,\none,pos,,\n,,,\ntwo,neg,,\n,,,\n") == [{"text": "one", "label": "pos"}, {"text": "two", "label": "neg"}]
    assert said.messages == [f"{tmp_path}/a.csv: 2 rows of empty cells are left out"]


# ---- headers ----

NO_HEADER = {
    "labels": ("a.csv", written(",", FILMS[1:], FILMS[0]), ":1: the first row is taken for names of columns, but 'pos' is a cell of 2 other rows too"),
    "label first": ("a.tsv", "".join(f"{label}\t{text}\n" for text, label in FILMS), "'pos' is a cell of 2 other rows too"),
    "semicolons": ("a.csv", written(";", FILMS[1:], FILMS[0]), "'pos' is a cell of 2 other rows too"),
    "numbers": ("a.csv", "3,Wall Street is,Short sellers\n4,Oil is up,More to come\n1,Rain in Spain,It fell\n", "one of which is '3', as if it were"),
    "scores": ("a.csv", "a film of much heart,0.5\na dull plot,1.5\nnot worth it,2\n", "one of which is '0.5'"),
    "a usual label": ("a.csv", "what is it,question\nit is so,answer\nwho is it,question\nme,answer\nwhy,question\n", "'question' is a cell of 2"),
    "long texts": ("a.csv", "this is a long text of a user\nand another one\n", "one of which is 'this is a long text of a user', as if"),
    "few": ("a.tsv", "ham\thello there\nspam\twin a prize now\nham\tok then\nham\tbye bye now\n", "'ham' is a cell of 2 other rows too"),
    "twice": ("a.csv", "3,3,good film\n1,2,bad film\n", "'3' stand more than once; rename all but one, or, if this row is a record, put"),
    "words": ("a.tsv", "Tom\tNOUN\nran\tVERB\n\nAnn\tNOUN\nsat\tVERB\n\nMia\tNOUN\n", "'NOUN' is a cell of 2 other rows too"),
}


@pytest.mark.parametrize("case", NO_HEADER)
def test_a_missing_header_is_noticed(case, tmp_path):
    name, content, message = NO_HEADER[case]
    line = refused(tmp_path, name, content)
    assert message in line
    assert "put a row of names above it, such as text,label" in line
    assert ("format=columns" in line) == (case == "words")


HEADERS = {
    "a word above texts": "comment_text,1,2\ngood film,1,0\nbad film,0,1\nso so,1,1\n",
    "numbers of pandas": "0,1\ngood film,pos\nbad film,neg\ngood one,pos\nbad one,neg\n",
    "a survey": "Timestamp,How satisfied are you with us today?\n2024-01-01,very much so\n2024-01-02,not at all\n",
    "a rare label as name": "text,spam\nwin a prize,1\nhello there,0\n",
    "a text that is a name": "text,label\ntext,a\nb,a\nc,b\nd,b\n",
    "an index of pandas": ",text,label\n0,good film,pos\n1,bad film,neg\n2,so so,neg\n",
    "one letter": "a,b\nx,1\ny,2\n",
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_is_taken_for_one(case, tmp_path):
    content = HEADERS[case]
    assert list(read(tmp_path, "a.csv", content)[0]) == content.split("\n")[0].split(",")


def test_what_may_be_a_record_is_a_warning(tmp_path, said):
    read(tmp_path, "a.csv", "How do you like the new office,Kantine\nvery much so,gut\nnot at all,schlecht\nso so,mittel\n")
    assert ["if it is a record, put a row of names above it" in line for line in said.messages] == [True]


def test_a_header_in_the_middle_is_left_out(tmp_path, said):
    assert read(tmp_path, "a.csv", written(",") + written(",")) == RECORDS * 2
    assert said.messages == [f"{tmp_path}/a.csv:7: the header stands here again, and 1 times below its first line; it is left out"]


def test_words_and_tags_without_a_header_are_columns(tmp_path, said):
    content = "Anna\tB-PER\nmoved\tO\n\nTo\tO\nRome\tB-LOC\n"
    records = [{"0": ["Anna", "moved"], "1": ["B-PER", "O"]}, {"0": ["To", "Rome"], "1": ["O", "B-LOC"]}]
    assert read(tmp_path, "a.tsv", content) == records
    assert "read as format=columns" in said.text
    assert read(tmp_path, "b.tsv", content.replace("\n", "\r\n")) == records
    line = refused(tmp_path, "c.tsv", "word\ttag\n" + content)
    assert "has a word a line and blank lines between sentences (column 'tag' holds tags)" in line
    assert "delete this line of names and set format=columns" in line


def test_comments_of_a_column_file_are_told_how_to_pass_over(tmp_path):
    content = "#\tnews.de [2010]\n1\tAnna\tB-PER\n2\tran\tO\n\n#\tnews.de [2011]\n" + "1\tTom\tB-PER\n2\tsat\tO\n" * 9
    assert "found 3 cell(s), expected 2 as in the header" in refused(tmp_path, "a.tsv", content)
    assert "; token files need format='columns'" in refused(tmp_path, "a.tsv", content)
    content = content.replace("[2010]", "[2010]\t2010").replace("[2011]", "[2011]\t2011")
    assert refused(tmp_path, "b.tsv", content).endswith("so it is no table; set format=columns and comment='#'")


def test_words_and_tags_with_commas_are_told_to_be_columns(tmp_path):
    assert "so it is no table; write TABs between the cells and set format=columns" in refused(tmp_path, "a.csv", "Anna,B-PER\nran,O\n\nTom,B-PER\nsat,O\n")
    line = refused(tmp_path, "b.csv", "word,tag\nAnna,B-PER\nran,O\n\nTom,B-PER\nsat,O\n")
    assert "delete this line of names, write TABs between the cells and set format=columns" in line


@pytest.mark.parametrize("content", ["| text | label |\n|---|:---:|\n| a b | x |\n", "text | label\n--- | ---\na b | x\n"])
def test_a_table_of_markdown_is_told(content, tmp_path):
    assert refused(tmp_path, "a.csv", content).startswith(":1: a table of Markdown, with a rule of dashes below its names; write it as CSV")


def test_lines_above_the_header_and_single_quotes_are_told(tmp_path):
    line = refused(tmp_path, "a.csv", "# made by hand\ntext,label\na b,x\nc d,y\n")
    assert line.startswith(":2: found 2 cell(s), expected 1 as in the header; delete the line '# made by hand' if it is no name of a column")
    assert "the names stand in single quotes ('text', 'label')" in refused(tmp_path, "b.csv", "'text','label'\n'a b','x'\n'c d','y'\n")


# ---- quotes ----

MRPC = '0\t"It is good," he said.\tHe said it was "good"\n1\t"So be it.\tSo "be" it.\n'


def test_quotes_of_a_tsv_may_be_letters(tmp_path, said):
    records = read(tmp_path, "a.tsv", "Quality\tfirst\tsecond\n" + MRPC)
    assert records == [dict(zip(("Quality", "first", "second"), line.split("\t"), strict=True)) for line in MRPC.splitlines()]
    assert said.messages == [f"{tmp_path}/a.tsv: quotes are read as letters: they do not balance"]


def test_a_quote_that_swallows_lines_is_a_letter(tmp_path, said):
    lines = ["1\t\"This opens", "0\ta plain text", "1\tand this closes\"", "0\tthe end"]
    records = read(tmp_path, "a.tsv", "label\tsentence\n" + "\n".join(lines) + "\n")
    assert [record["sentence"] for record in records] == [line[2:] for line in lines]
    assert "taken otherwise they would make 2 records of 4 lines" in said.text


def test_a_tsv_with_real_quotes_keeps_them(tmp_path, said):
    rows = [("line\nbreak and \t TAB", "pos"), ('a "word"', "neg"), ("plain", "pos")]
    assert read(tmp_path, "a.tsv", written("\t", rows)) == [{"text": text, "label": label} for text, label in rows]
    assert said.messages == [f"{tmp_path}/a.tsv: 3 records on 4 lines: 1 of them have line breaks in a cell, the first in line 2"]


def test_escaped_quotes(tmp_path, said):
    records = [{"text": 'he said "no", then', "label": "a"}, {"text": "b", "label": "c"}]
    assert read(tmp_path, "a.csv", 'text,label\n"he said \\"no\\", then",a\n"b",c\n') == records
    assert 'a quote in a cell is written \\"' in said.text


def test_a_quote_in_a_csv_that_swallows_records_is_refused(tmp_path):
    rows = [f'"{text}",{label}' for text, label in FILMS]
    rows[2] = '"it opens,pos'
    rows.insert(3, "inside,neg")
    rows.insert(4, 'it closes",pos')
    line = refused(tmp_path, "a.csv", "text,label\n" + "\n".join(rows) + "\n")
    assert line.startswith(":4: a quote opens here and closes in line 6, with whole records between")
    line = refused(tmp_path, "b.csv", 'text,label\na,b\n"c,d\ne,f\n')
    assert line.startswith(":3: unexpected end of data: a quote that opens here is never closed")


def test_line_breaks_with_commas_are_told_and_read(tmp_path, said):
    rows = [("Dear all,\nthanks, Bob", "pos"), ("Hi,\nthere", "neg"), ("fine", "pos"), ("so so", "neg"), ("good", "pos")]
    assert read(tmp_path, "a.csv", written(",", rows)) == [{"text": text, "label": label} for text, label in rows]
    assert said.messages == [f"{tmp_path}/a.csv: 5 records on 7 lines: 2 of them have line breaks in a cell, the first in line 2"]


def test_the_place_of_a_mistake_stays(tmp_path):
    assert refused(tmp_path, "a.tsv", "text\tlabel\na \"b\tc\nd\n").startswith(":3: found 1 cell(s), expected 2 as in the header")
    assert refused(tmp_path, "b.csv", 'text;label\n"a;b";c\n"d"e;f\n').startswith(":3: ")


# ---- lists in cells ----

TOKENS, TAGS = [["Anna", "moved", "to", "St. Ives", "."], ["It's", 'a "quote"', "[x]", "é😀"], []], [[1, 0, 0, 2, 0], [0, 0, 0, 0], []]
WRITERS = {
    "pandas": repr,
    "JSON": json.dumps,
    "JSON of letters": lambda value: json.dumps(value, ensure_ascii=False),
    "NumPy": lambda value: str(np.array(value, dtype=None if value else object)),
    "NumPy, objects": lambda value: str(np.array(value, dtype=object)),
    "array()": lambda value: repr(np.array(value, dtype=object)),
    "NumPy 2 scalars": lambda value: repr([np.str_(item) if isinstance(item, str) else np.int64(item) for item in value]),
    "tuples": lambda value: repr(tuple(value)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_lists_in_cells_are_lists(writer, tmp_path, said):
    write = WRITERS[writer]
    rows = [(i, write(tokens), write(tags)) for i, (tokens, tags) in enumerate(zip(TOKENS, TAGS, strict=True))]
    records = read(tmp_path, "a.csv", written(",", rows, ("id", "tokens", "ner_tags")))
    assert records == [{"id": str(i), "tokens": tokens, "ner_tags": tags} for i, (tokens, tags) in enumerate(zip(TOKENS, TAGS, strict=True))]
    assert said.messages[0] == f"{tmp_path}/a.csv: the cells of columns 'tokens', 'ner_tags' are read as lists" or "records on" in said.messages[0]


def test_a_frame_comes_back(tmp_path):
    records = [{"text": "a b", "label": [0, 1, 0], "p": [0.5, 1.0]}, {"text": "c d", "label": [1, 0, 0], "p": [2.0]}]
    pd.DataFrame(records).to_csv(tmp_path / "a.csv", index=False)
    assert list(open_source(str(tmp_path / "a.csv"), split="train")) == records
    frame = pd.DataFrame([{"text": "a b", "label": np.array([0, 1, 0])}, {"text": "c d", "label": np.array([1, 0, 0])}])
    frame.to_csv(tmp_path / "b.csv", index=False)
    assert [record["label"] for record in open_source(str(tmp_path / "b.csv"), split="train")] == [[0, 1, 0], [1, 0, 0]]


def test_answers_of_squad_in_a_cell(tmp_path):
    answers = {"text": np.array(["Ada"], dtype=object), "answer_start": np.array([3], dtype=np.int32)}
    pd.DataFrame([{"question": "Who?", "answers": answers}] * 2).to_csv(tmp_path / "a.csv", index=False)
    assert open_source(str(tmp_path / "a.csv"), split="train")[0]["answers"] == {"text": ["Ada"], "answer_start": [3]}


@pytest.mark.parametrize(
    "texts", [["[deleted]", "[removed]"], ["[deleted]", "a text"], ["(laughs) yes (no)", "(so)"], ["[1] says so", "so [1]"], ["[1, 2]", "a", "b"]]
)
def test_texts_in_brackets_stay_texts(texts, tmp_path):
    assert read(tmp_path, "a.csv", written(",", [(text, "x") for text in texts])) == [{"text": text, "label": "x"} for text in texts]


BROKEN = {
    "no list": (["['a', 'b']", "['c']", "d e", "['f']"], ":4: column 'text' holds lists, but this cell is 'd e'"),
    "cut": (["['a', 'b']", "['c', ", "['d']"], ":3: column 'text' holds lists, but this cell is \"['c', \""),
    "cut by NumPy": ([str(np.arange(2000)), "[1 2]"], ":2: the list in column 'text' is not whole: NumPy left out what stands at '...'; write the table anew"),
    "without quotes": (["[Anna, moved, to]", "[O, O]"], ":2: column 'text' holds lists, but this cell is '[Anna, moved, to]' (no value at 'Anna')"),
    "no value": (["['a', nan]", "['c']"], ":2: column 'text' holds lists, but this cell is \"['a', nan]\" (no value at 'nan')"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_cell_that_is_no_list_is_refused_by_name(case, tmp_path):
    cells, message = BROKEN[case]
    assert message in refused(tmp_path, "a.csv", written(",", [(cell, "x") for cell in cells]))


@pytest.mark.parametrize(
    "text",
    ["", "[", "[1-2]", "['a''b']", "[a]", "(2)", "2", "'a'", "{1: 2}", "{'a': }", "[1] 2", "array()", "np.x(1)(2)", "['\\ud800']", '["\\ud800"]', "[1e999]",
     "[" * 5000 + "]" * 5000, "[1,,", "[inf]", '{"a": NaN}', "[Infinity]"],
)  # fmt: skip
def test_what_is_no_list(text):
    with pytest.raises(ValueError, match=r"."):
        parse_list(text)


def test_elements_that_numpy_left_out():
    for write in (str, repr):
        with pytest.raises(CutError):
            parse_list(write(np.arange(2000)))
    with np.printoptions(threshold=sys.maxsize):
        assert parse_list(str(np.arange(2000))) == list(range(2000))


VALUE = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=8,
)


@given(value=st.lists(VALUE, max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_list_comes_back(value):
    for spelt in (repr(value), json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        assert parse_list(spelt) == value


WORD = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(words=st.lists(WORD, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_words_of_numpy_come_back(words):
    array = np.array(words, dtype=object)
    assert parse_list(str(array)) == words
    assert parse_list(repr(array)) == words


ROWS = st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.sampled_from(["yes", "no", "N/A"])), min_size=1)


@given(rows=ROWS, delimiter=st.sampled_from([",", ";", "\t", "|"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_any_table_comes_back(rows, delimiter, tmp_path):
    content = written(delimiter, rows, quoting=csv.QUOTE_ALL)
    try:
        records = read(tmp_path, "a.csv", content)
    except UserError:  # texts in brackets with commas may be meant as lists
        assert any("[" in text for text, _ in rows)
        return
    assert [record["label"] for record in records] == [label for _, label in rows]
    assert all(record["text"] == text or isinstance(record["text"], list | dict) for record, (text, _) in zip(records, rows, strict=True))
