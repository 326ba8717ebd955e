"""Published data sets become files with splits that never move; what is missing or damaged is one line."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import prepare

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"


def put(folder: Path, name: str, content: str | bytes) -> None:
    """A file of DATA; gzipped where the name says so."""
    raw = content.encode() if isinstance(content, str) else content
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)


def put_zip(folder: Path, name: str, files: dict[str, bytes]) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for member, raw in files.items():
            archive.writestr(member, raw)
    put(folder, name, sink.getvalue())


def put_books(folder: Path, files: dict[str, str]) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:xz") as archive:
        for member, text in files.items():
            info = tarfile.TarInfo(f"classic_books/{member}.md")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    put(folder, "classic_books/classic_books_md.tar.xz", sink.getvalue())


def squad_like(titles: list[str], *, version: str = "1.1", **question: object) -> str:
    asked = {"id": "q", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 5}], **question}
    return json.dumps({"version": version, "data": [{"title": t, "paragraphs": [{"context": "Ada wrote.", "qas": [asked]}]} for t in titles]})


def jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]]


# The rules


def test_a_share_is_the_first_bytes_of_the_sha1() -> None:
    # echo -n '' | sha1sum begins with da39a3ee5e6b4b0d, echo -n abc | sha1sum with a9993e364706816a.
    assert prepare.share("") == 0xDA39A3EE5E6B4B0D / 2**64
    assert prepare.share("abc") == 0xA9993E364706816A / 2**64


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text())
def test_a_split_depends_on_the_key_alone_and_shares_are_kept_in_order(key: str) -> None:
    assert 0 <= prepare.share(key) < 1
    split = prepare.by_hash(key, train=0.7, validation=0.1)
    assert split == ("train" if prepare.share(key) < 0.7 else "validation" if prepare.share(key) < 0.7 + 0.1 else "test")
    assert split == prepare.by_hash(str(key), train=0.7, validation=0.1)


def test_the_split_of_a_thousand_keys_never_moves() -> None:
    assert Counter(prepare.by_hash(str(i), train=0.8, validation=0.1) for i in range(1000)) == {"train": 805, "validation": 90, "test": 105}


# Sets with labels, pairs and choices


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_sentiment_keeps_equal_texts_in_one_split(tmp_path: Path, encoding: str) -> None:
    lines = [f"a café number {i} . " for i in range(200)]
    put(tmp_path, "sentence_polarity/rt-polarity.pos.gz", "\n".join(lines + lines[:50]).encode(encoding))
    put(tmp_path, "sentence_polarity/rt-polarity.neg", "\r\n".join(lines[:20]).encode(encoding))  # not gzipped, CRLF, texts of the other file
    found = prepare.sentiment(tmp_path)
    texts = {split: {r["text"] for r in records} for split, records in found.items()}
    assert texts["train"] | texts["validation"] | texts["test"] == {line.strip() for line in lines}
    assert sum(len(t) for t in texts.values()) == 200  # disjoint
    assert {split: len(records) for split, records in found.items()} == {"train": 227, "validation": 16, "test": 27}
    assert Counter(r["label"] for records in found.values() for r in records) == {"positive": 250, "negative": 20}


def test_reviews_go_by_the_number_in_their_name(tmp_path: Path) -> None:
    names = {"pos/cv000_1": "train", "neg/cv799_2": "train", "pos/cv800_3": "validation", "neg/cv899_4": "validation"}
    names |= {"pos/cv900_5": "test", "neg/cv999_6": "test"}
    files = {f"movie_reviews/{name}.txt": f"{name} is \r\n  long".encode() for name in names}
    put_zip(tmp_path, "movie_reviews/movie_reviews.zip", files | {"movie_reviews/README": b"-"})
    found = prepare.reviews(tmp_path)
    assert {r["text"].split()[0]: split for split, records in found.items() for r in records} == names
    assert found["train"][1] == {"text": "pos/cv000_1 is long", "label": "positive"}
    assert [r["label"] for r in found["test"]] == ["negative", "positive"]


def test_banking77_has_quotes_crlf_and_line_breaks_in_its_texts(tmp_path: Path) -> None:
    head = "\ufefftext,category\r\n"
    put(tmp_path, "banking77/train.csv.gz", head + '"\nMy card, blocked\n\n",card\r\n' + "".join(f"text {i},label\r\n" for i in range(300)))
    put(tmp_path, "banking77/test.csv.gz", head + '"""Hi"" there",greeting\r\n')
    found = prepare.banking77(tmp_path)
    assert {split: len(records) for split, records in found.items()} == {"train": 260, "validation": 41, "test": 1}
    assert {"text": "My card, blocked", "label": "card"} in found["train"]
    assert found["test"] == [{"text": '"Hi" there', "label": "greeting"}]
    put(tmp_path, "banking77/test.csv.gz", "text,label\r\na,b\r\n")
    with pytest.raises(prepare.InputError, match=r"test\.csv, record 1: needs text and category"):
        prepare.banking77(tmp_path)


def test_clinc150_adds_what_is_out_of_scope_to_each_split(tmp_path: Path) -> None:
    parts = {name: [[f"text of {name}", "oos" if "oos" in name else "translate"]] for name in ("train", "val", "test", "oos_train", "oos_val", "oos_test")}
    put(tmp_path, "clinc150/data_full.json.gz", json.dumps(parts))
    found = prepare.clinc150(tmp_path)
    assert found["validation"] == [{"text": "text of val", "label": "translate"}, {"text": "text of oos_val", "label": "oos"}]
    assert [[r["text"] for r in found[s]] for s in ("train", "test")] == [["text of train", "text of oos_train"], ["text of test", "text of oos_test"]]
    put(tmp_path, "clinc150/data_full.json.gz", json.dumps({"train": []}))
    with pytest.raises(prepare.InputError, match="oos_train"):
        prepare.clinc150(tmp_path)


def test_emotions_are_names_and_quotes_mean_nothing(tmp_path: Path) -> None:
    put(tmp_path, "go_emotions/labels.txt", "joy\r\nanger\r\nneutral\r\n")
    put(tmp_path, "go_emotions/train.tsv.gz", '"never closed\t0,2\tid1\r\n#5 wow\u2028yes\t1\tid2\r\n')
    put(tmp_path, "go_emotions/dev.tsv.gz", "a\t2\tid3\n")
    put(tmp_path, "go_emotions/test.tsv.gz", "")
    found = prepare.emotions(tmp_path)
    assert found["train"] == [{"text": '"never closed', "labels": ["joy", "neutral"]}, {"text": "#5 wow\u2028yes", "labels": ["anger"]}]
    assert found["validation"] == [{"text": "a", "labels": ["neutral"]}] and found["test"] == []
    put(tmp_path, "go_emotions/test.tsv.gz", "fine\t0\tid4\nb\t3\tid5\n")
    with pytest.raises(prepare.InputError, match=r"test\.tsv, line 2: '3' are not numbers of the 3 labels"):
        prepare.emotions(tmp_path)


def test_stsb_has_tabs_no_quoting_and_sometimes_two_columns_more(tmp_path: Path) -> None:
    put(tmp_path, "stsb/sts-train.csv.gz", 'g\tf\t2012\t1\t5.000\tA "b.\t C" d.\ng\tf\t2016\t2\t3\tx\ty \tsource\tsource\n')
    put(tmp_path, "stsb/sts-dev.csv.gz", "g\tf\t2012\t1\t0\ta\tb\r\n")
    put(tmp_path, "stsb/sts-test.csv.gz", "")
    found = prepare.stsb(tmp_path)
    assert found["train"] == [{"sentence1": 'A "b.', "sentence2": 'C" d.', "score": 5.0}, {"sentence1": "x", "sentence2": "y", "score": 3.0}]
    assert found["validation"] == [{"sentence1": "a", "sentence2": "b", "score": 0.0}]
    wrong = {"g\tf\t2012\t1\t5.1\ta\tb": "the score is '5.1'", "g\tf\t2012\t1\tnan\ta\tb": "the score is 'nan'", "a\tb": "has 2 columns, 7 are needed"}
    for line, message in wrong.items():
        put(tmp_path, "stsb/sts-test.csv.gz", f"\n{line}\n")
        with pytest.raises(prepare.InputError, match=f"line 2: .*{message}"):
            prepare.stsb(tmp_path)


def test_choices_of_one_concept_stay_in_one_split(tmp_path: Path) -> None:
    def row(i: int) -> dict:
        texts = {"label": list("ABCDE"), "text": [f"{c}{i}" for c in "abcde"]}
        return {"id": f"id{i}", "question": f"What {i}?", "question_concept": f"concept {i // 3}", "choices": texts, "answerKey": "ABCDE"[i % 5]}

    put(tmp_path, "commonsenseqa/dev_rand_split.jsonl.gz", "\ufeff" + "\r\n".join(json.dumps(row(i)) for i in range(300)) + "\r\n")
    found = prepare.choice(tmp_path)
    concepts = {split: {int(r["id"][2:]) // 3 for r in records} for split, records in found.items()}
    assert {split: len(records) for split, records in found.items()} == {"train": 198, "validation": 30, "test": 72}
    assert sum(len(c) for c in concepts.values()) == 100  # disjoint
    seventh = next(r for records in found.values() for r in records if r["id"] == "id7")
    assert seventh == {"question": "What 7?", "choices": ["a7", "b7", "c7", "d7", "e7"], "label": 2, "id": "id7"}
    put(tmp_path, "commonsenseqa/dev_rand_split.jsonl.gz", json.dumps(row(1) | {"answerKey": "F"}))
    with pytest.raises(prepare.InputError, match="line 1: not a question"):
        prepare.choice(tmp_path)


def test_relations_lose_their_quotes_but_not_those_inside(tmp_path: Path) -> None:
    block = '{0}\t"A <e1>b</e1> "said" <e2>c</e2>."\r\nCause-Effect(e2,e1)\r\nComment: "x"\r\n\r\n'
    put(tmp_path, "semeval2010_task8/TRAIN_FILE.TXT.gz", "".join(block.format(i) for i in range(1, 201)))
    put(tmp_path, "semeval2010_task8/TEST_FILE_FULL.TXT.gz", block.format(8001).rstrip())
    found = prepare.relation(tmp_path)
    assert found["test"] == [{"sentence": 'A <e1>b</e1> "said" <e2>c</e2>.', "relation": "Cause-Effect(e2,e1)", "id": "8001"}]
    assert [r["id"] for r in found["validation"]][:4] == ["8", "14", "15", "25"]
    assert {split: len(records) for split, records in found.items()} == {"train": 179, "validation": 21, "test": 1}
    put(tmp_path, "semeval2010_task8/TEST_FILE_FULL.TXT.gz", '1\t"A <e1>b</e1> alone."\nOther\n')
    with pytest.raises(prepare.InputError, match="not an id, a sentence in quotes"):
        prepare.relation(tmp_path)


# Tokens with tags


def test_weibo_positions_of_two_digits_are_cut_too(tmp_path: Path) -> None:
    put(tmp_path, "weibo_ner/weiboNER_2nd_conll.train.gz", "\ufeff李0\tB-PER.NAM\n开1\tI-PER.NAM\n90\tO\n\n\n310\tO\n211\tO\n\ufffd\ufffd0\tO\n")
    for name in ("dev", "test"):
        put(tmp_path, f"weibo_ner/weiboNER_2nd_conll.{name}.gz", "好0\tO\r\n\t\r\n的0\tO\r\n")  # a tab alone ends a sentence
    found = prepare.ner_chinese(tmp_path)
    assert found["train"] == [
        {"tokens": ["李", "开", "9"], "ner_tags": ["B-PER.NAM", "I-PER.NAM", "O"]},
        {"tokens": ["3", "2", "\ufffd\ufffd"], "ner_tags": ["O", "O", "O"]},
    ]
    assert found["test"] == [{"tokens": ["好"], "ner_tags": ["O"]}, {"tokens": ["的"], "ner_tags": ["O"]}]


def test_wikiann_loses_the_language_once(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        put(tmp_path, f"wikiann/de/{name}.gz", f"de:de:{name}\tB-LOC\nde::\tO\n\nde:#\tO\n")
    found = prepare.wikiann_de(tmp_path)
    assert found["validation"] == [{"tokens": ["de:dev", ":"], "ner_tags": ["B-LOC", "O"]}, {"tokens": ["#"], "ner_tags": ["O"]}]


def test_germeval_takes_the_outer_tags_and_every_fifth_sentence(tmp_path: Path) -> None:
    sentence = "#\thttp://a.de\t[2010-07-04]\t\n1\tW{0}\tB-LOC\tB-PER\n2\t#\tO\tO\n\n"
    put(tmp_path, "germeval2014/NER-de-dev.tsv.gz", "".join(sentence.format(i) for i in range(11)))
    put(tmp_path, "germeval2014/NER-de-test.tsv.gz", "#\thttp://a.de\t[2007-08-11]\n1\t\"\tO\tO\t\n\n")  # a column too few, one too many
    found = prepare.germeval2014(tmp_path)
    assert [[r["tokens"][0] for r in found[s]] for s in ("train", "validation")] == [[f"W{i}" for i in (0, 1, 2, 3, 5, 6, 7, 8, 10)], ["W4", "W9"]]
    assert found["train"][0] == {"tokens": ["W0", "#"], "ner_tags": ["B-LOC", "O"]}
    assert found["test"] == [{"tokens": ['"'], "ner_tags": ["O"]}]


# Questions


def test_an_article_is_in_the_same_split_of_every_file(tmp_path: Path) -> None:
    titles = [f"Article_{i}" for i in range(40)]
    put(tmp_path, "squad/dev-v1.1.json.gz", squad_like(titles))
    put(tmp_path, "squad_v2_half/dev-v2.0.json.gz", squad_like(titles[:9], version="v2.0", is_impossible=True, answers=[], plausible_answers=[{"text": "A"}]))
    put(tmp_path, "xquad/xquad.de.json.gz", squad_like(titles[::-1]))
    one, two, german = prepare.squad(tmp_path), prepare.squad_v2(tmp_path), prepare.xquad_de(tmp_path)
    by = [{a["title"]: split for split, file in found.items() for a in file["data"]} for found in (one, two, german)]
    assert by[0] == by[2] and set(by[0]) == set(titles) and by[1] == {t: by[0][t] for t in titles[:9]}
    assert Counter(by[0].values()) == {"train": 27, "validation": 4, "test": 9}
    assert one["test"]["version"] == "1.1" and one["train"]["data"][0]["paragraphs"][0]["qas"][0]["answers"] == [{"text": "Ada", "answer_start": 5}]
    impossible = two["train"]["data"][0]["paragraphs"][0]["qas"][0]
    assert impossible["is_impossible"] is True and impossible["answers"] == [] and impossible["plausible_answers"] == [{"text": "A"}]


def test_cmrc_needs_no_title_and_keeps_wrong_offsets(tmp_path: Path) -> None:
    dev = json.loads(squad_like([f"标题{i // 2}" for i in range(60)]))
    dev["data"].append({"id": "DEV_9", "paragraphs": dev["data"][0]["paragraphs"]})
    put(tmp_path, "cmrc2018/cmrc2018_dev.json.gz", json.dumps(dev))
    put(tmp_path, "cmrc2018/cmrc2018_trial.json.gz", squad_like(["试"], version="v1.0"))
    found = prepare.cmrc2018(tmp_path)
    titles = {split: [a["title"] for a in file["data"]] for split, file in found.items()}
    assert titles["validation"] == ["试"] and found["validation"]["version"] == "v1.0"
    assert not set(titles["train"]) & set(titles["test"]) and "DEV_9" in titles["train"] + titles["test"]
    assert (len(titles["train"]), len(titles["test"])) == (45, 16)
    assert found["test"]["data"][0]["paragraphs"][0]["qas"][0]["answers"] == [{"text": "Ada", "answer_start": 5}]  # it starts at 0


def test_a_file_in_another_layout_is_one_line(tmp_path: Path) -> None:
    for content in ['{"data": [{"title": "a", "paragraphs": [{"context": "b"}]}]}', '{"data": [{"paragraphs": []}]}', '{"data": null}', "[]", "{", "\u00e9"]:
        put(tmp_path, "squad/dev-v1.1.json", content)
        with pytest.raises(prepare.InputError, match=r"dev-v1\.1\.json: (not|a JSON list)") as caught:
            prepare.squad(tmp_path)
        assert "\n" not in str(caught.value)


# Text for masked language models


def words(number: int, word: str = "word") -> str:
    return " ".join([word] * number)


def test_a_book_is_plain_text() -> None:
    text = (
        "\ufeff# Title: A Book\n\n## Author: Ada\n\n## Year: 1843\n\n-------\n\n##  CHAPTER I. THE START \n\nIt was *very* _late_,\nshe   said.[*]\n\n"
        "* * * * *\n\n> Notes &amp; 3 \\- 4\n\n\\* \\*\n\n---|---\n\nProduced by Ada and the team\n\nThis eBook is of Project Gutenberg.\n\n"
        "**THE END.**\n\nThe end of the day was near.\n"
    )
    assert prepare.book(text) == ["CHAPTER I. THE START", "It was very late, she said.", "Notes & 3 - 4", "The end of the day was near."]


def test_a_speech_has_no_applause_titles_or_notes() -> None:
    text = (
        "PRESIDENT X'S ADDRESS TO THE CONGRESS\n \nAnnual Message. January 22, 1970\n\nTHE PRESIDENT:  Thank you all.  (Applause.)\n9:10 P.M. EST\n"
        "President X waves, Tuesday, Jan. 31, 2006. White House photo by Ada Bell We go on [laughter] and on.\nIt ended on May 8, 1945.\n"
        "NOTE: The President spoke at noon.\nMore of the note\n"
    )
    assert prepare.speech(text) == ["Thank you all.", "We go on and on.", "It ended on May 8, 1945."]


def test_passages_are_full_but_never_longer_than_180_words() -> None:
    short, long = words(50), f"Mr. A {words(96)} end. {words(97, 'Next')}"
    texts = [p["text"] for p in prepare.passages([short, short, long, words(400, "run-on")])]
    assert [len(t.split()) for t in texts] == [100, 99, 97, 180, 180, 40]  # "Mr." ends no sentence
    assert " ".join(texts) == " ".join([short, short, long, words(400, "run-on")])
    assert prepare.passages(["Of four words only."]) == [] and prepare.passages([]) == []
    assert prepare.passages(["A b.", "C d e."]) == [{"text": "A b. C d e."}]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 400).map(lambda n: " ".join(f"w{i}{'.' if i % 7 == 6 else ''}" for i in range(n))), max_size=8))
def test_no_word_is_lost_but_in_passages_under_five(paragraphs: list[str]) -> None:
    found = [p["text"].split() for p in prepare.passages(paragraphs)]
    assert all(5 <= len(p) <= 180 for p in found)
    lost = sum(len(p.split()) for p in paragraphs) - sum(map(len, found))
    assert 0 <= lost <= 4 * (len(found) + 1)


def test_works_are_split_whole_and_a_reprinted_tale_is_never_held_out(tmp_path: Path) -> None:
    tales = [f"## One\n\n{words(30, f'unique{i}')}\n\n{words(30, f'tail{i}')}\n" for i in range(10)]
    put_books(tmp_path, {f"Author/Book {i}": tale for i, tale in enumerate(tales)})
    found = prepare.books(tmp_path)
    held = {s: sorted(int(r["text"].split()[1][6:]) for r in found[s]) for s in ("train", "validation", "test")}
    order = sorted(range(10), key=lambda i: prepare.share(f"Author/Book {i}"))
    assert held == {"validation": sorted(order[:2]), "test": sorted(order[2:4]), "train": sorted(order[4:])}

    put_books(tmp_path, {f"Author/Book {i}": tale for i, tale in enumerate(tales)} | {"Author/Collection": tales[order[0]]})
    again = prepare.books(tmp_path)
    assert f"unique{order[0]} " in "".join(r["text"] for r in again["train"]) and len(again["train"]) == 7
    assert all(f"unique{order[0]} " not in r["text"] for s in ("validation", "test") for r in again[s])


def test_speeches_in_big5_are_read(tmp_path: Path) -> None:
    plain = {f"inaugural/{i}-Adams.txt": f"Fellow citizens, this is speech {i}.\n".encode() for i in range(4)}
    put_zip(tmp_path, "us_speeches/inaugural.zip", plain | {"inaugural/README": b"x"})
    put_zip(tmp_path, "us_speeches/state_union.zip", {"state_union/1970-Nixon.txt": "Man’s genius has no end — none at all.".encode("big5")})
    found = prepare.speeches(tmp_path)
    texts = [r["text"] for records in found.values() for r in records]
    assert len(texts) == 5 and "Man’s genius has no end — none at all." in texts
    assert [len(found[s]) for s in ("train", "validation", "test")] == [1, 2, 2]


def test_wikitext_has_no_headings(tmp_path: Path) -> None:
    put(tmp_path, "wikitext2/valid.txt.gz", " \n = A <unk> = \n \n A well @-@ known <unk> of 1 @,@ 000 . \n = = B = = \n = not a heading \n")
    put(tmp_path, "wikitext2/test.txt.gz", " \n")
    assert prepare.wikitext2(tmp_path) == {"validation": [{"text": "A well-known <unk> of 1,000 ."}, {"text": "= not a heading"}], "test": []}


# The command


def test_the_command_writes_whole_files_and_says_what(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    put(data, "wikitext2/valid.txt", "Der Käfer \n")
    put(data, "wikitext2/test.txt", "a\nb\n")
    put(data, "squad/dev-v1.1.json", squad_like([f"Article_{i}" for i in range(40)]))
    # As a user runs it, without the package: -S and -I leave site-packages and this folder out.
    done = subprocess.run([sys.executable, "-S", "-I", ROOT / "benchmarks/prepare.py", data, out, "wikitext2", "squad"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{out}/wikitext2/validation.jsonl: 1 records (as published)",
        f"{out}/wikitext2/test.jsonl: 2 records (as published)",
        *(f"{out}/squad/{split}.json: {n} questions (by article: sha1 of the title)" for split, n in {"train": 27, "validation": 4, "test": 9}.items()),
    ]
    assert (out / "wikitext2/validation.jsonl").read_bytes() == '{"text": "Der Käfer"}\n'.encode()
    assert len(json.loads((out / "squad/test.json").read_text())["data"]) == 9
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["test.json", "test.jsonl", "train.json", "validation.json", "validation.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, b"", "sts-train.csv: neither this file nor sts-train.csv.gz is there"),
        ("sts-train.csv.gz", None, "sts-train.csv.gz: cannot be read"),
        ("sts-train.csv", b"\xff\xfe", "sts-train.csv: neither utf-8"),
        ("sts-train.csv", b"one column\n", "line 1: 'one column' has 1 columns, 7 are needed"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture, name: str | None, content: bytes | None, message: str
) -> None:
    if name:
        put(tmp_path, "stsb/sts-train.csv", "")
        (tmp_path / "stsb/sts-train.csv").unlink()
        (tmp_path / "stsb" / name).write_bytes(gzip.compress(b"x" * 1000)[:-9] if content is None else content)
    assert prepare.main([str(tmp_path), str(tmp_path / "out"), "stsb"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and message in printed.err and printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_damaged_archives_and_unknown_names_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    put(tmp_path, "movie_reviews/movie_reviews.zip", b"no zip")
    put(tmp_path, "classic_books/classic_books_md.tar.xz", b"no tar")
    wrong = {"reviews": "movie_reviews.zip: cannot be read", "books": "tar.xz: cannot be read", "speeches": "inaugural.zip: is not there"}
    for name, message in {**wrong, "x": "no data set 'x'"}.items():
        assert prepare.main([str(tmp_path), str(tmp_path / "out"), name]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "train.jsonl"
    assert prepare.write(path, [{"text": "old"}]) == 1
    with pytest.raises(TypeError):
        prepare.write(path, [{"text": "new"}, {"text": {1, 2}}])
    assert jsonl(path) == [{"text": "old"}] and [p.name for p in path.parent.iterdir()] == ["train.jsonl"]


# The real files. Beside a split of ours stands the number of records that its authors publish.

COUNTS = {
    "speeches": (2947, 41, 36),
    "wikitext2": (None, 1841, 2185),  # no train
    "sentiment": (8636, 1002, 1024),  # 10,662 sentences
    "reviews": (1600, 200, 200),
    "banking77": (8984, 1019, 3080),  # 10,003 and 3,080
    "clinc150": (15100, 3100, 5500),
    "emotions": (43410, 5426, 5427),
    "stsb": (5749, 1500, 1379),
    "choice": (853, 113, 255),  # 1,221
    "relation": (7230, 770, 2717),  # 8,000 and 2,717
    "ner_chinese": (1350, 270, 270),
    "wikiann_en": (20000, 10000, 10000),
    "wikiann_de": (20000, 10000, 10000),
    "germeval2014": (1760, 440, 5100),  # 2,200 and 5,100
    "squad": (8189, 1145, 1236),  # 10,570
    "squad_v2": (4039, 1165, 874),  # 6,078
    "xquad_en": (901, 141, 148),  # 1,190
    "xquad_de": (901, 141, 148),
    "xquad_zh": (901, 141, 148),
    "cmrc2018": (2640, 1002, 579),  # 3,219 and 1,002
}
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason="needs the real data in ../shared/data")


@needs_data
def test_the_real_splits_have_not_moved(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare.main([str(REAL), str(tmp_path), *COUNTS]) == 0
    printed = capsys.readouterr().out
    for name, counts in COUNTS.items():
        for split, count in zip(prepare.SPLITS, counts, strict=True):
            assert count is None or f"/{name}/{split}.json: {count} questions" in printed or f"/{name}/{split}.jsonl: {count} records" in printed, (name, split)

    found = {split: jsonl(tmp_path / f"ner_chinese/{split}.jsonl") for split in prepare.SPLITS}
    assert [sum(len(s["tokens"]) for s in found[split]) for split in prepare.SPLITS] == [73778, 14509, 14842]
    assert {t for s in found["train"] for t in s["tokens"] if len(t) > 1} == {"\ufffd\ufffd"}  # what became of an emoji
    assert len({r["label"] for r in jsonl(tmp_path / "clinc150/test.jsonl")}) == 151
    assert len({r["relation"] for r in jsonl(tmp_path / "relation/train.jsonl")}) == 19
    assert sum(len(r["labels"]) > 1 for r in jsonl(tmp_path / "emotions/train.jsonl")) == 7102
    for name, sizes in {"squad": [36, 6, 6], "xquad_zh": [36, 6, 6], "squad_v2": [10, 3, 3]}.items():
        assert [len(json.loads((tmp_path / name / f"{s}.json").read_text())["data"]) for s in prepare.SPLITS] == sizes
    texts = [{r["text"] for r in jsonl(tmp_path / f"sentiment/{s}.jsonl")} for s in prepare.SPLITS]
    assert len(texts[0] | texts[1] | texts[2]) == sum(map(len, texts))


@needs_data
def test_cmrc_offsets_are_as_published() -> None:
    wrong = 0
    found = prepare.cmrc2018(REAL)
    for split in ("train", "test"):
        for paragraph in (p for a in found[split]["data"] for p in a["paragraphs"]):
            wrong += sum(not paragraph["context"].startswith(a["text"], a["answer_start"]) for q in paragraph["qas"] for a in q["answers"])
    assert wrong == 200
