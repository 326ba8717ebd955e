"""Published data sets, as they lie in DATA, become files with fixed splits that the configs read.

    python benchmarks/prepare.py DATA OUT [NAME ...]

writes OUT/<name>/{train,validation,test}.jsonl, one JSON object a line, or .json in the SQuAD layout, for the data sets named, or for all. A file is written
whole or not at all. For every file a line says how many records it has and the rule of its split. What is missing or damaged is one line, and exit code 1.

A split that its authors published is kept. Every other one is a fixed rule on the records themselves, so it is the same on every machine and for ever.
Files may be gzipped (`train.csv.gz`) or not (`train.csv`). Only the standard library is needed.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import html
import io
import json
import lzma
import os
import re
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

SPLITS = ("train", "validation", "test")
Splits = dict[str, list[dict]]  # split -> records
Articles = dict[str, dict]  # split -> a file in the SQuAD layout: {"version", "data": [{"title", "paragraphs"}]}


class InputError(Exception):
    """What is wrong with DATA, in one line."""

    def __init__(self, message: str):
        # The text of a damaged file and the errors of tarfile may hold line breaks; the promise is one line.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


# The rules of the splits


def share(key: str) -> float:
    """A number in [0, 1) that depends on the key alone: the first 8 bytes of its sha1."""
    return int.from_bytes(hashlib.sha1(key.encode()).digest()[:8], "big") / 2**64


def by_hash(key: str, *, train: float, validation: float) -> str:
    """The split of everything that has this key. `train` and `validation` are shares of 1; the rest is test."""
    position = share(key)
    return "train" if position < train else "validation" if position < train + validation else "test"


def by_article(title: str) -> str:
    """The split of a SQuAD article, by its English title, the same in every file: nothing trained on one of the files has read another's test articles.

    The number in front of the title is the first from 0 up that gives 36 / 6 / 6 of the 48 articles of dev v1.1 and 10 / 3 / 3 of the 16 of `squad_v2_half`.
    """
    return by_hash(f"334 {title}", train=0.75, validation=0.125)


# Files


def decode(raw: bytes, name: object, *, fallback: str = "") -> str:
    """UTF-8 with or without a byte-order mark, else the fallback encoding. Line ends come back as a plain line feed."""
    for encoding in ("utf-8-sig", fallback):
        try:
            return raw.decode(encoding or "ascii").replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue
    raise InputError(f"{name}: neither utf-8{f' nor {fallback}' if fallback else ''}")


def read(data: Path, name: str, *, fallback: str = "") -> str:
    """The text of DATA/name, or of DATA/name.gz."""
    path = data / name
    if not path.is_file():
        path = data / f"{name}.gz"
    try:
        raw = path.read_bytes()
        return decode(gzip.decompress(raw) if path.suffix == ".gz" else raw, path, fallback=fallback)
    except FileNotFoundError:
        raise InputError(f"{data / name}: neither this file nor {path.name} is there") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def load(data: Path, name: str) -> dict:
    """The JSON object in DATA/name."""
    try:
        found = json.loads(read(data, name))
    except ValueError as error:
        raise InputError(f"{data / name}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{data / name}: a JSON {type(found).__name__}, not an object")
    return found


def members(data: Path, name: str, suffix: str) -> dict[str, bytes]:
    """The files in DATA/name, a zip or a tar, that end in `suffix`, by their path in it, sorted."""
    path = data / name
    found = {}
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                found = {member: archive.read(member) for member in archive.namelist() if member.endswith(suffix)}
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.name.endswith(suffix) else None
                    if file is not None:
                        found[member.name] = file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: is not there") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return dict(sorted(found.items()))


def rows(data: Path, name: str, *, columns: int, comment: str = "") -> Iterator[tuple[str, list[str]]]:
    """(place, fields) of each line of a tab-separated file without quoting and without header; no fields where a line is empty or holds white space alone.

    `comment` is what a whole line of no interest begins with.
    """
    # Not splitlines(): some texts hold U+0085 or U+2028, which it takes for line ends.
    for number, line in enumerate(read(data, name).split("\n"), start=1):
        if comment and line.startswith(comment):
            continue
        fields = line.split("\t") if line.strip() else []
        if fields and len(fields) < columns:
            raise InputError(f"{data / name}, line {number}: {line[:80]!r} has {len(fields)} columns, {columns} are needed")
        yield f"{data / name}, line {number}", fields


# Texts with a label, pairs, choices, relations


def sentiment(data: Path) -> Splits:
    """text, label (positive or negative): sentence_polarity/rt-polarity.{pos,neg}, one a line. 80 / 10 / 10 by sha1 of the text: equal texts stay together."""
    found: Splits = {name: [] for name in SPLITS}
    for suffix, label in {"pos": "positive", "neg": "negative"}.items():
        for line in read(data, f"sentence_polarity/rt-polarity.{suffix}", fallback="latin-1").split("\n"):
            text = line.strip()
            if text:
                found[by_hash(text, train=0.8, validation=0.1)].append({"text": text, "label": label})
    return found


def reviews(data: Path) -> Splits:
    """text (white space folded), label: movie_reviews/movie_reviews.zip. By the number in the file's name: cv0 to cv7 train, cv8 validation, cv9 test."""
    found: Splits = {name: [] for name in SPLITS}
    for name, raw in members(data, "movie_reviews/movie_reviews.zip", ".txt").items():
        match = re.search(r"(pos|neg)/cv(\d)\d\d_", name)
        if match is None:
            raise InputError(f"{data / 'movie_reviews/movie_reviews.zip'}: {name} is not named like pos/cv000_29590.txt")
        split = {"8": "validation", "9": "test"}.get(match[2], "train")
        found[split].append({"text": " ".join(decode(raw, name, fallback="latin-1").split()), "label": {"pos": "positive", "neg": "negative"}[match[1]]})
    return found


def banking77(data: Path) -> Splits:
    """text, label (one of 77 intents): banking77/{train,test}.csv. validation is 10 % of train by sha1 of the text; test as published."""
    found: Splits = {name: [] for name in SPLITS}
    for name in ("train", "test"):
        try:
            published = list(csv.DictReader(io.StringIO(read(data, f"banking77/{name}.csv"), newline="")))
        except csv.Error as error:
            raise InputError(f"{data / f'banking77/{name}.csv'}: not CSV ({error})") from None
        # A few of the texts begin or end with line breaks, inside their quotes.
        for number, row in enumerate(published, start=1):
            if not row.get("text") or not row.get("category"):
                raise InputError(f"{data / f'banking77/{name}.csv'}, record {number}: needs text and category, has {json.dumps(row, ensure_ascii=False)[:80]}")
            text = row["text"].strip()
            found["test" if name == "test" else by_hash(text, train=0.9, validation=0.1)].append({"text": text, "label": row["category"]})
    return found


def clinc150(data: Path) -> Splits:
    """text, label (one of 150 intents, or oos for what is out of scope): clinc150/data_full.json. Splits as published, each with its oos part."""
    published = load(data, "clinc150/data_full.json")
    parts = {"train": ("train", "oos_train"), "validation": ("val", "oos_val"), "test": ("test", "oos_test")}
    try:
        return {split: [{"text": text, "label": label} for name in names for text, label in published[name]] for split, names in parts.items()}
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{data / 'clinc150/data_full.json'}: not the parts with pairs of text and intent ({error!r})") from None


def emotions(data: Path) -> Splits:
    """text, labels (the names of one or more of 28 emotions): go_emotions/{train,dev,test}.tsv and labels.txt. Splits as published."""
    names = read(data, "go_emotions/labels.txt").split()
    found: Splits = {}
    for split, name in {"train": "train", "validation": "dev", "test": "test"}.items():
        found[split] = []
        for place, fields in rows(data, f"go_emotions/{name}.tsv", columns=3):
            if fields:
                try:
                    found[split].append({"text": fields[0].strip(), "labels": [names[int(i)] for i in fields[1].split(",")]})
                except (ValueError, IndexError):
                    raise InputError(f"{place}: {fields[1]!r} are not numbers of the {len(names)} labels, from 0") from None
    return found


def stsb(data: Path) -> Splits:
    """sentence1, sentence2, score (0 to 5): stsb/sts-{train,dev,test}.csv, which are separated by tabs and not quoted. Splits as published."""
    found: Splits = {}
    for split, name in {"train": "train", "validation": "dev", "test": "test"}.items():
        found[split] = []
        for place, fields in rows(data, f"stsb/sts-{name}.csv", columns=7):
            if fields:
                try:
                    score = float(fields[4])
                except ValueError:
                    score = -1.0
                if not 0 <= score <= 5:
                    raise InputError(f"{place}: the score is {fields[4]!r}, not a number from 0 to 5")
                found[split].append({"sentence1": fields[5].strip(), "sentence2": fields[6].strip(), "score": score})
    return found


def choice(data: Path) -> Splits:
    """question, choices (5 texts), label (0 to 4), id: commonsenseqa/dev_rand_split.jsonl. 70 / 10 / 20 by sha1 of the question's concept."""
    found: Splits = {name: [] for name in SPLITS}
    for number, line in enumerate(read(data, "commonsenseqa/dev_rand_split.jsonl").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            choices = row["choices"]
            record = {"question": row["question"], "choices": choices["text"], "label": choices["label"].index(row["answerKey"]), "id": row["id"]}
            found[by_hash(row["question_concept"], train=0.7, validation=0.1)].append(record)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{data / 'commonsenseqa/dev_rand_split.jsonl'}, line {number}: not a question ({error!r})") from None
    return found


def relation(data: Path) -> Splits:
    """sentence (with <e1>..</e1> and <e2>..</e2>), relation, id: semeval2010_task8. validation is 10 % of train by sha1 of the id; test as published."""
    found: Splits = {name: [] for name in SPLITS}
    for name in ("TRAIN_FILE.TXT", "TEST_FILE_FULL.TXT"):
        for block in re.split(r"\n\s*\n", read(data, f"semeval2010_task8/{name}").strip()):
            match = re.match(r'(\d+)\t"(.*<e1>.*</e1>.*<e2>.*</e2>.*)"[ \t]*\n(\S+)', block)
            if match is None:
                raise InputError(f"{data / 'semeval2010_task8' / name}: {block[:80]!r} is not an id, a sentence in quotes with <e1> and <e2>, and a relation")
            split = by_hash(match[1], train=0.9, validation=0.1) if name == "TRAIN_FILE.TXT" else "test"
            found[split].append({"sentence": match[2].strip(), "relation": match[3], "id": match[1]})
    return found


# Tokens with tags


def tagged(data: Path, name: str, *, token: int = 0, tag: int = 1, comment: str = "") -> list[dict]:
    """tokens, ner_tags: the sentences of a file with one token a line, from these columns."""
    sentences: list[dict] = []
    inside = False
    for _, fields in rows(data, name, columns=max(token, tag) + 1, comment=comment):
        if fields and not inside:
            sentences.append({"tokens": [], "ner_tags": []})
        inside = bool(fields)
        if fields:
            sentences[-1]["tokens"].append(fields[token])
            sentences[-1]["ner_tags"].append(fields[tag].strip())
    return sentences


def ner_chinese(data: Path) -> Splits:
    """tokens (characters), ner_tags: weibo_ner. Splits as published."""
    found = {split: tagged(data, f"weibo_ner/weiboNER_2nd_conll.{name}") for split, name in {"train": "train", "validation": "dev", "test": "test"}.items()}
    for sentence in (sentence for part in found.values() for sentence in part):
        # After the character stands its position in its word, of two digits in words of more than 10: `310` is a 3 at position 10.
        sentence["tokens"] = [re.sub(r"(?<=.)\d+$", "", token) for token in sentence["tokens"]]
    return found


def wikiann(data: Path, language: str) -> Splits:
    """tokens, ner_tags: wikiann/<language>/{train,dev,test}, tokens without `<language>:`. Splits as published."""
    found = {split: tagged(data, f"wikiann/{language}/{name}") for split, name in {"train": "train", "validation": "dev", "test": "test"}.items()}
    for sentence in (sentence for part in found.values() for sentence in part):
        sentence["tokens"] = [token.removeprefix(f"{language}:") for token in sentence["tokens"]]
    return found


def wikiann_en(data: Path) -> Splits:
    """See `wikiann`."""
    return wikiann(data, "en")


def wikiann_de(data: Path) -> Splits:
    """See `wikiann`."""
    return wikiann(data, "de")


def germeval2014(data: Path) -> Splits:
    """tokens, ner_tags (the outer ones): germeval2014/NER-de-{dev,test}.tsv. Of dev every fifth sentence is validation, the others train; test as published."""
    dev, test = (tagged(data, f"germeval2014/NER-de-{name}.tsv", token=1, tag=2, comment="#\t") for name in ("dev", "test"))
    return {
        "train": [sentence for i, sentence in enumerate(dev) if i % 5 != 4],
        "validation": dev[4::5],
        "test": test,
    }


# Questions on a text, in the SQuAD layout. Whatever stands in a question stays as published, offsets that are wrong too.


def articles(data: Path, name: str) -> tuple[str, list[dict]]:
    """The version and the articles of a file in the SQuAD layout; an article without a title gets its id as title."""
    published = load(data, name)
    try:
        found = [{"title": article.get("title") or article["id"], "paragraphs": article["paragraphs"]} for article in published["data"]]
        # Looked up here, so that a missing key is one line and no traceback later.
        _ = [(paragraph["context"], question["question"]) for article in found for paragraph in article["paragraphs"] for question in paragraph["qas"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{data / name}: not in the SQuAD layout ({error!r})") from None
    return str(published.get("version", "")), found


def questions(data: Path, name: str) -> Articles:
    """A file's articles, each in the split that `by_article` says."""
    version, found = articles(data, name)
    return {split: {"version": version, "data": [article for article in found if by_article(article["title"]) == split]} for split in SPLITS}


def squad(data: Path) -> Articles:
    """squad/dev-v1.1.json, 48 articles."""
    return questions(data, "squad/dev-v1.1.json")


def squad_v2(data: Path) -> Articles:
    """squad_v2_half/dev-v2.0.json, 16 articles, with `is_impossible`."""
    return questions(data, "squad_v2_half/dev-v2.0.json")


def xquad_en(data: Path) -> Articles:
    """xquad/xquad.en.json, 48 articles with English titles."""
    return questions(data, "xquad/xquad.en.json")


def xquad_de(data: Path) -> Articles:
    """xquad/xquad.de.json, 48 articles with English titles."""
    return questions(data, "xquad/xquad.de.json")


def xquad_zh(data: Path) -> Articles:
    """xquad/xquad.zh.json, 48 articles with English titles."""
    return questions(data, "xquad/xquad.zh.json")


def cmrc2018(data: Path) -> Articles:
    """cmrc2018/cmrc2018_{dev,trial}.json: of dev 80 % is train and 20 % test by sha1 of the title; trial is validation."""
    version, dev = articles(data, "cmrc2018/cmrc2018_dev.json")
    found = {name: {"version": version, "data": [a for a in dev if by_hash(a["title"], train=0.8, validation=0.0) == name]} for name in ("train", "test")}
    trial_version, trial = articles(data, "cmrc2018/cmrc2018_trial.json")
    return {"train": found["train"], "validation": {"version": trial_version, "data": trial}, "test": found["test"]}


# Text for masked language models

PASSAGE_WORDS = 180
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
FRONT = re.compile(r"#+ *(Title|Author|Year):")
BOILERPLATE = re.compile(r"project gutenberg|^(produced|transcribed|translated|proofread) by\b|^transcriber's note|^(this is )?the end\W*$", re.IGNORECASE)
SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"'”’]))(?<!Mr\.)(?<!Mrs\.)(?<!Dr\.)(?<!St\.)\s+")
ASIDE = re.compile(r"[(\[](applause|laughter)[^)\]]*[)\]]|^THE PRESIDENT:|^President .{0,250}?White House photo by [A-Z][a-z]+ [A-Z][a-z]+", re.IGNORECASE)
DATED = re.compile(rf"({MONTHS}) \d{{1,2}}, \d{{4}}\W*$")
AFTERWORD = re.compile(r"note:|web resources >>", re.IGNORECASE)


def book(text: str) -> list[str]:
    """The paragraphs of a book in Markdown, in plain text: no title page, marks, rules or boilerplate; the words of headings stay."""
    text = html.unescape(text.replace("\ufeff", ""))
    lines = [re.sub(r"^\s*>", "", line) for line in text.split("\n") if not FRONT.match(line)]
    paragraphs: list[str] = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        plain = re.sub(r"\\(?=[-.*_#{}\[\]])|[#*_]", "", paragraph).replace("[]", "").replace("|", " ")
        plain = " ".join(plain.split())
        if any(c.isalpha() for c in plain) and not BOILERPLATE.search(plain):
            paragraphs.append(plain)
    return paragraphs


def speech(text: str) -> list[str]:
    """The paragraphs of a speech, one a line in the file: no titles (capitals alone, or dated lines before the speech), applause, captions or notes."""
    paragraphs: list[str] = []
    for line in text.split("\n"):
        plain = " ".join(ASIDE.sub(" ", " ".join(line.split())).split())
        if AFTERWORD.match(plain):
            break
        title = plain.upper() == plain or (not paragraphs and DATED.search(plain) and len(plain.split()) <= 20)
        if not title:
            paragraphs.append(plain)
    return paragraphs


def passages(paragraphs: list[str]) -> list[dict]:
    """The paragraphs of one work joined to passages of at most 180 words. Paragraphs of more than 60 words are divided at the ends of sentences."""
    pieces: list[list[str]] = []
    for paragraph in paragraphs:
        for part in SENTENCE_END.split(paragraph) if len(paragraph.split()) > 60 else [paragraph]:
            words = part.split()
            pieces += [words[i : i + PASSAGE_WORDS] for i in range(0, len(words), PASSAGE_WORDS)]
    joined: list[list[str]] = [[]]
    for piece in pieces:
        if len(joined[-1]) + len(piece) > PASSAGE_WORDS:
            joined.append([])
        joined[-1] += piece
    return [{"text": " ".join(words)} for words in joined if len(words) >= 5]


def by_work(works: dict[str, list[str]]) -> Splits:
    """The passages of the works: of the works in the order of their names' sha1, the first 2 % (at least 2) are validation, as many after them test.

    A work that shares a paragraph of 20 words or more with another (a tale that is in a collection too) is never held out.
    """
    counts = Counter(paragraph for paragraphs in works.values() for paragraph in set(paragraphs) if len(paragraph.split()) >= 20)
    alone = [name for name, paragraphs in works.items() if all(counts[p] < 2 for p in paragraphs)]
    order = sorted(alone, key=share)
    number = max(2, round(len(works) / 50))
    split = dict.fromkeys(order[:number], "validation") | dict.fromkeys(order[number : 2 * number], "test")
    found: Splits = {name: [] for name in SPLITS}
    for name, paragraphs in works.items():
        found[split.get(name, "train")] += passages(paragraphs)
    return found


def books(data: Path) -> Splits:
    """text: a passage of classic_books/classic_books_md.tar.xz. Split by work."""
    found = members(data, "classic_books/classic_books_md.tar.xz", ".md")
    # By author and title, wherever in the archive the folders lie.
    return by_work({"/".join(Path(name).with_suffix("").parts[-2:]): book(decode(raw, name)) for name, raw in found.items()})


def speeches(data: Path) -> Splits:
    """text: a passage of us_speeches/inaugural.zip and state_union.zip. Split by speech."""
    found = members(data, "us_speeches/inaugural.zip", ".txt") | members(data, "us_speeches/state_union.zip", ".txt")
    # Seven of the files have their dashes and quotes in Big5; none is in Latin-1.
    return by_work({name: speech(decode(raw, name, fallback="big5")) for name, raw in found.items()})


def wikitext2(data: Path) -> Splits:
    """text: a paragraph of wikitext2/{valid,test}.txt, `<unk>` as it is, ` @-@ ` joined again, headings left out. Splits as published; no train."""
    found: Splits = {}
    for split, name in {"validation": "valid", "test": "test"}.items():
        lines = [line.strip() for line in read(data, f"wikitext2/{name}.txt").split("\n")]
        texts = [line for line in lines if line and not re.fullmatch(r"(= )+.*( =)+", line)]
        found[split] = [{"text": re.sub(r" @([-,.])@ ", r"\1", text)} for text in texts]
    return found


# name -> the function that reads it, and the rule of its split in a few words
SETS: dict[str, tuple[Callable[[Path], Splits] | Callable[[Path], Articles], str]] = {
    "books": (books, "by work: 2 % validation, 2 % test, by sha1 of author/title"),
    "speeches": (speeches, "by speech: 2 % validation, 2 % test, by sha1 of the file's name"),
    "wikitext2": (wikitext2, "as published"),
    "sentiment": (sentiment, "80/10/10 by sha1 of the text"),
    "reviews": (reviews, "cv000-799 train, cv800-899 validation, cv900-999 test"),
    "banking77": (banking77, "validation 10 % of train by sha1 of the text, test as published"),
    "clinc150": (clinc150, "as published, oos parts added"),
    "emotions": (emotions, "as published"),
    "stsb": (stsb, "as published"),
    "choice": (choice, "70/10/20 of dev by sha1 of the question's concept"),
    "relation": (relation, "validation 10 % of train by sha1 of the id, test as published"),
    "ner_chinese": (ner_chinese, "as published"),
    "wikiann_en": (wikiann_en, "as published"),
    "wikiann_de": (wikiann_de, "as published"),
    "germeval2014": (germeval2014, "train and validation are dev, every fifth sentence validation; test as published"),
    "squad": (squad, "by article: sha1 of the title"),
    "squad_v2": (squad_v2, "by article: sha1 of the title"),
    "xquad_en": (xquad_en, "by article: sha1 of the title"),
    "xquad_de": (xquad_de, "by article: sha1 of the title"),
    "xquad_zh": (xquad_zh, "by article: sha1 of the title"),
    "cmrc2018": (cmrc2018, "train and test are dev, 80/20 by sha1 of the title; validation is trial"),
}


def write(path: Path, content: list[dict] | dict) -> int:
    """Writes one split, by a temporary name first. Returns the number of records, for the SQuAD layout the number of questions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            if isinstance(content, dict):
                json.dump(content, file, ensure_ascii=False)
            else:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if isinstance(content, dict):
        return sum(len(paragraph["qas"]) for article in content["data"] for paragraph in article["paragraphs"])
    return len(content)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SETS))
    args = parser.parse_args(arguments)
    try:
        unknown = [name for name in args.names if name not in SETS]
        if unknown:
            raise InputError(f"no data set {unknown[0]!r}; there are {', '.join(SETS)}")
        for name in args.names or SETS:
            function, rule = SETS[name]
            for split, content in function(args.data).items():
                path = args.out / name / f"{split}.{'json' if isinstance(content, dict) else 'jsonl'}"
                print(f"{path}: {write(path, content)} {'questions' if isinstance(content, dict) else 'records'} ({rule})", flush=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
