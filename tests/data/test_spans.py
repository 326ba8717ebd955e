"""Exports of annotation tools: spans of characters become words and tags, whatever the layout; what does not fit is told with its place."""

from __future__ import annotations

import importlib.util
import json

import pytest

from flaxft.data import spans
from flaxft.data.base import Records
from flaxft.data.source import open_source
from flaxft.data.spans import Columns
from flaxft.errors import UserError

TEXT = "Mara Lind works for Holt Motors in Bergen."
PLACES = [(0, 9, "PER"), (20, 31, "ORG"), (35, 41, "LOC")]
WORDS = "Mara Lind works for Holt Motors in Bergen .".split()
TAGS = "B-PER I-PER O O B-ORG I-ORG O B-LOC O".split()


def source(*records):
    return Records("train.jsonl", json.dumps(records, default=str), records, range(1, len(records) + 1), where_format=":{}")


def made(*records, how="punctuation"):
    given = source(*records)
    columns = spans.find(given)
    assert columns is not None
    return spans.convert(given, columns, how=how)


def mention(start, end):
    return TEXT[start:end]


LAYOUTS = {
    "doccano, label": {"id": 0, "text": TEXT, "label": [list(place) for place in PLACES]},
    "doccano, labels": {"id": 0, "data": TEXT, "labels": [list(place) for place in PLACES]},
    "doccano, entities": {
        "text": TEXT, "entities": [{"id": 3, "label": k, "start_offset": s, "end_offset": e} for s, e, k in PLACES], "relations": [], "Comments": [],
    },
    "prodigy": {"text": TEXT, "answer": "accept", "spans": [{"start": s, "end": e, "label": k, "token_start": 0} for s, e, k in PLACES]},
    "label studio, JSON-MIN": {"id": 1, "text": TEXT, "ner": [{"start": s, "end": e, "text": mention(s, e), "labels": [k]} for s, e, k in PLACES]},
    "cluener": {"text": TEXT, "label": {k: {mention(s, e): [[s, e - 1]]} for s, e, k in PLACES}},
    "by type": {"text": TEXT, "entities": {k: [[s, e]] for s, e, k in PLACES}},
    "dataturks": {
        "content": TEXT, "annotation": [{"label": [k], "points": [{"start": s, "end": e - 1, "text": mention(s, e)}]} for s, e, k in PLACES], "extras": None,
    },
    "with their texts": {"text": TEXT, "entities": [[s, e, mention(s, e), k] for s, e, k in PLACES]},
    "label first": {"sentence": TEXT, "ents": [[s, e, k, mention(s, e)] for s, e, k in PLACES]},
    "tuples written into a cell": {"text": TEXT, "entities": str(PLACES)},
    "begin and end": {"text": TEXT, "entities": [{"begin": s, "end": e, "type": k, "mention": mention(s, e)} for s, e, k in PLACES]},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_words_and_tags(name):
    empty = {key: (type(value)() if isinstance(value, list | dict) else value) for key, value in LAYOUTS[name].items()}
    found = made(LAYOUTS[name], empty)
    assert (found[0]["tokens"], found[0]["tags"], found[0]["text"]) == (WORDS, TAGS, TEXT)
    assert [TEXT[start:end] for start, end in found[0][spans.PLACES]] == WORDS
    assert set(found[1]["tags"]) == ({"O"} if not isinstance(empty.get("entities"), str) else set(TAGS))
    assert [found.where(i) for i in range(2)] == ["train.jsonl:1", "train.jsonl:2"]
    assert not found.notes


@pytest.mark.parametrize(
    "record",
    [
        {"text": TEXT, "label": "PER"},
        {"text": TEXT, "label": ["a", "b"]},
        {"text": TEXT, "label": [1, 2]},
        {"text": TEXT, "scores": [[1, 2], [3, 4]]},
        {"sentences": [["a"]], "ner": [[[0, 1, "X"]]]},
        {"tokens": ["a"], "tags": ["O"]},
        {"text": TEXT, "entities": []},
    ],
)
def test_records_without_spans_are_none(record):
    assert spans.find(source(record)) is None


def test_words_of_prodigy_are_taken_and_rejected_records_left_out():
    tokens = [{"text": TEXT[s:e], "start": s, "end": e, "id": i} for i, (s, e) in enumerate([(0, 9), (10, 31), (32, 34), (35, 42)])]
    record = {"text": TEXT, "tokens": tokens, "spans": [{"start": 0, "end": 9, "label": "PER"}], "answer": "accept"}
    found = made(record, record | {"answer": "reject"}, record | {"answer": "ignore"})
    assert [list(one["tokens"]) for one in found] == [["Mara Lind", "works for Holt Motors", "in", "Bergen."]]
    assert found[0]["tags"] == ["B-PER", "O", "O", "O"]
    assert found.notes == ("2 records that were rejected or ignored are left out",)
    with pytest.raises(UserError, match="accepted none of its 1 records"):
        made(record | {"answer": "reject"})


def test_what_cuts_a_word_is_widened_and_blanks_go():
    found = made({"text": "Annas house in Oslo now", "entities": [[0, 4, "PER"], [11, 20, "LOC"]]})
    assert found[0]["tags"] == ["B-PER", "O", "B-LOC", "I-LOC", "O"]
    assert found.notes == ("1 of 2 spans cut a word and were widened to whole words", "blanks at the ends of 1 spans were taken off")


def test_of_overlapping_spans_the_longest_stays():
    found = made({"text": TEXT, "entities": [[0, 4, "FIRST"], [0, 9, "PER"], [5, 15, "X"], [35, 41, "LOC"]]})
    assert found[0]["tags"] == ["B-FIRST", "B-X", "I-X", "O", "O", "O", "O", "B-LOC", "O"]
    assert found.notes == ("1 spans overlap a longer one and are left out, the first is train.jsonl:1: 'Mara Lind' (PER)",)


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ([0, 99, "PER"], "the span [0, 99] of 'PER' is beyond its text of 42 characters"),
        ([-1, 4, "PER"], "the span [-1, 4] of 'PER' is beyond its text"),
        ([4, 4, "PER"], "the span [4, 4] of 'PER' is empty"),
        ([4, 5, "PER"], "the span [4, 5] of 'PER' is empty"),
        ([9, 4, "PER"], "beyond its text"),
        ({"start": 0, "end": 4, "label": "PER", "text": "Holt"}, "is 'Mara' in the text, but 'Holt' in its own words"),
        ({"start": 0, "end": 4, "label": ""}, "has no start, end and label"),
        ({"start": 0, "end": "4", "label": "PER"}, "has no start, end and label"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(span, message):
    with pytest.raises(UserError) as error:
        made({"text": TEXT, "entities": [[0, 4, "A"]]}, {"text": TEXT, "entities": [span]})
    assert str(error.value).startswith("train.jsonl:2: ")
    assert message in str(error.value)


def test_a_record_of_another_kind_is_refused_with_its_place():
    records = [{"text": TEXT, "entities": [[0, 4, "A"]]}] * spans.SAMPLE
    with pytest.raises(UserError, match=r"train.jsonl:201: column 'entities' is '\[1, 2\]', expected spans"):
        made(*records, {"text": TEXT, "entities": [1, 2]})
    with pytest.raises(UserError, match=r"train.jsonl:201: column 'text' is '5', expected a text"):
        made(*records, {"text": 5, "entities": []})


@pytest.mark.parametrize(("encoding", "size", "unit"), [("utf-16-le", 2, "UTF-16 units"), ("utf-8", 1, "bytes")])
def test_offsets_that_count_otherwise_are_known(encoding, size, unit):
    records = []
    for name in ("Anna", "Bert", "Carla", "Dora"):
        text = f"\U0001f600\U0001f600 {name} lives"
        start = len(text[: text.index(name)].encode(encoding)) // size
        records.append({"text": text, "entities": [[start, start + len(name), "PER"]]})
    found = made(*records)
    people = [word for one in found for word, tag in zip(one["tokens"], one["tags"], strict=True) if tag == "B-PER"]
    assert people == ["Anna", "Bert", "Carla", "Dora"]
    assert found.notes == (f"the offsets of its spans count {unit} and not characters: they are read so",)
    right = [{"text": one["text"], "entities": [[3, 3 + len(one["text"].split()[1]), "PER"]]} for one in records]
    assert not made(*right).notes


def test_signs_without_blanks_are_words():
    found = made({"text": "\u5f20\u4e09\u5728\u5317\u4eac\u3002", "label": {"PER": {"\u5f20\u4e09": [[0, 1]]}, "LOC": {"\u5317\u4eac": [[3, 4]]}}})
    assert found[0]["tags"] == ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]


def test_the_way_that_cuts_the_fewest_spans():
    chemistry = source(*[{"text": "the c-fos gene", "entities": [[6, 9, "GENE"]]}] * 3)
    assert spans.choose_way(chemistry, Columns("text", "entities")) == "pattern"
    assert spans.choose_way(source({"text": "AL-AIN's U.S. (now)", "entities": [[0, 6, "LOC"], [9, 13, "LOC"]]}), Columns("text", "entities")) == "clitics"
    assert spans.choose_way(source({"text": TEXT, "entities": PLACES}), Columns("text", "entities")) == "punctuation"


# ---- files ----


def write(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return str(folder / name)


def read(path):
    given = open_source(path, split="train")
    columns = spans.find(given)
    return list(spans.convert(given, columns, how="punctuation")) if columns else list(given)


def task(number, results, **more):
    annotations = [{"id": 1, "result": results, "was_cancelled": False}]
    return {"id": number, "data": {"text": TEXT, "source": "x"}, "annotations": annotations, "predictions": []} | more


RESULTS = [{"value": {"start": s, "end": e, "text": TEXT[s:e], "labels": [k]}, "from_name": "label", "type": "labels"} for s, e, k in PLACES]


def test_label_studio_spans(tmp_path, caplog):
    cancelled = [{"result": [], "was_cancelled": True}, {"result": RESULTS, "was_cancelled": False}]
    tasks = [task(1, RESULTS), task(2, []), task(3, [], annotations=[]), task(4, [], annotations=cancelled)]
    with caplog.at_level("INFO", logger="flaxft"):
        found = read(write(tmp_path, "a.json", tasks))
    assert [one["tags"] for one in found] == [TAGS, ["O"] * 9, TAGS]
    assert "1 of 4 tasks have no annotation and are left out" in caplog.text


def test_label_studio_choices_are_labels(tmp_path):
    choose = [{"value": {"choices": ["good"]}, "from_name": "mood", "type": "choices"}]
    path = write(tmp_path, "a.json", [task(1, choose), task(2, []), task(3, [{"value": {"choices": ["good", "new"]}}])])
    assert [record.get("label") for record in open_source(path, split="train")] == ["good", ["good", "new"]]
    with pytest.raises(UserError, match="none of its 1 tasks was annotated"):
        open_source(write(tmp_path, "b.json", [task(1, RESULTS, annotations=[{"result": RESULTS, "was_cancelled": True}])]), split="train")
    with pytest.raises(UserError, match="its annotations are rating, expected labels of spans of text, or choices"):
        open_source(write(tmp_path, "c.json", [task(1, [{"value": {"rating": 3}}])]), split="train")


PAIR = [TEXT, {"entities": [list(place) for place in PLACES]}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", [PAIR, PAIR]),
        ("a.json", {"classes": ["PER"], "annotations": [PAIR, None, PAIR]}),
        ("a.jsonl", f"{json.dumps(PAIR)}\n{json.dumps(PAIR)}\n"),
        ("a.json", json.dumps([PAIR, PAIR], indent=2)),
    ],
)
def test_spacy_pairs(tmp_path, name, content):
    assert [one["tags"] for one in read(write(tmp_path, name, content))] == [TAGS, TAGS]


def test_spacy_categories_and_what_is_no_pair(tmp_path):
    path = write(tmp_path, "a.json", [[TEXT, {"entities": [], "cats": {"POS": 1.0, "NEG": 0.0}}]])
    assert open_source(path, split="train")[0] == {"text": TEXT, "entities": [], "label": "POS"}
    with pytest.raises(UserError, match=r"b.json:1: found 5, expected"):
        open_source(write(tmp_path, "b.json", [PAIR, 5]), split="train")
    with pytest.raises(UserError, match=r"c.json:1: bad JSON: .* is the file cut off"):
        open_source(write(tmp_path, "c.json", json.dumps([PAIR, PAIR])[:-9]), split="train")


def test_documents_of_spacy_2(tmp_path):
    tokens = [{"id": 0, "orth": "Anna", "tag": "NNP", "ner": "U-PER"}, {"id": 1, "orth": "ran", "tag": "VBD", "ner": "-"}]
    path = write(tmp_path, "a.json", [{"id": 0, "paragraphs": [{"raw": "Anna ran", "sentences": [{"tokens": tokens, "brackets": []}]}]}])
    assert list(open_source(path, split="train")) == [{"tokens": ["Anna", "ran"], "ner_tags": ["U-PER", "-"], "pos_tags": ["NNP", "VBD"]}]
    with pytest.raises(UserError, match="not the JSON of spaCy 2"):
        open_source(write(tmp_path, "b.json", json.dumps([{"paragraphs": [{"sentences": [{"tokens": [{"orth": 1}]}, 5]}]}])), split="train")


def test_files_of_spacy_need_its_extra(tmp_path):
    (tmp_path / "a.spacy").write_bytes(b"x")
    with pytest.raises(UserError, match="pip install" if importlib.util.find_spec("spacy") is None else "not a whole .spacy file"):
        open_source(str(tmp_path / "a.spacy"), split="train")


def test_files_of_spacy(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    from spacy.tokens import DocBin

    doc = spacy.blank("en")(TEXT)
    doc.ents = [doc.char_span(start, end, label=label) for start, end, label in PLACES]
    DocBin(docs=[doc]).to_disk(tmp_path / "a.spacy")
    assert [one["tags"] for one in read(str(tmp_path / "a.spacy"))] == [TAGS]


def test_brat(tmp_path, caplog):
    write(tmp_path, "a.txt", f"{TEXT}\n\nThe office in\nTurku and Oslo\nmoved.\n")
    lines = [f"T{i}\t{kind} {start} {end}\t{TEXT[start:end]}" for i, (start, end, kind) in enumerate(PLACES)]
    lines += ["T8\tLOC 55 63\tin Turku", "T9\tLOC 58 63;68 72\tTurku Oslo", "R1\tAt Arg1:T1 Arg2:T2", "#1\tAnnotatorNotes T1\tnote", "A1\tNeg T1"]
    with caplog.at_level("WARNING", logger="flaxft"):
        found = read(write(tmp_path, "a.ann", "\n".join(lines) + "\n"))
    assert [one["tags"] for one in found] == [TAGS, ["O", "O", "B-LOC", "I-LOC", "O", "O"], ["O", "O"]]
    assert "1 discontinuous spans are left out, the first is" in caplog.text
    given = open_source(str(tmp_path / "a.ann"), split="train")
    assert [given.where(i).rpartition(":")[2] for i in range(3)] == ["1", "3", "5"]
    write(tmp_path, "b.ann", "T1\tPER 0 900\tx\n")
    with pytest.raises(UserError, match=r"b.ann: an annotation file of brat, whose text .*b.txt is not beside it"):
        open_source(str(tmp_path / "b.ann"), split="train")
    write(tmp_path, "b.txt", "x")
    with pytest.raises(UserError, match=r"b.ann:1: the span 0 900 is empty or beyond"):
        open_source(str(tmp_path / "b.ann"), split="train")
    write(tmp_path, "b.ann", "T1 PER 0 1 x\n")
    with pytest.raises(UserError, match=r"b.ann:1: found 'T1 PER 0 1 x'"):
        open_source(str(tmp_path / "b.ann"), split="train")


def test_a_folder_of_brat(tmp_path):
    for name in ("a", "b"):
        write(tmp_path, f"{name}.txt", TEXT)
        write(tmp_path, f"{name}.ann", "T1\tPER 0 9\tMara Lind\n")
    assert [one["tags"][:3] for one in read(str(tmp_path))] == [["B-PER", "I-PER", "O"]] * 2
