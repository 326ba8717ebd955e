"""Published data sets, as they lie in DATA, become files with fixed splits that the configs read.

    python benchmarks/prepare.py DATA OUT [NAME ...]

writes OUT/<name>/{train,validation,test}.jsonl, one JSON object a line, or .json in the SQuAD layout, for the data sets named, or for all. A file is written
whole or not at all. For every file a line says how many records it has and the rule of its split. What is missing or damaged is one line, and exit code 1.

A split that its authors published is kept. Every other one is a fixed rule on the records themselves, so it is the same on every machine and for ever.
Files may be gzipped (`train.csv.gz`) or not (`train.csv`). Only the standard library is needed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html
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
        return json.loads(read(data, name))
    except ValueError as error:
        raise InputError(f"{data / name}: not JSON ({error})") from None


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


def rows(data: Path, name: str, *, columns: int) -> Iterator[tuple[str, list[str]]]:
    """(place, fields) of each line of a tab-separated file without quoting and without header. Lines of white space alone yield no fields."""
    # Not splitlines(): some texts hold U+0085 or U+2028, which it takes for line ends.
    for number, line in enumerate(read(data, name).split("\n"), start=1):
        fields = line.split("\t") if line.strip() else []
        if fields and len(fields) < columns and not line.startswith("#"):
            raise InputError(f"{data / name}, line {number}: {line[:80]!r} has {len(fields)} columns, {columns} are needed")
        yield f"{data / name}, line {number}", fields


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
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        plain = re.sub(r"\\(?=[-.*_#{}\[\]])|[#*_]", "", paragraph).replace("[]", "").replace("|", " ")
        plain = " ".join(plain.split())
        if any(c.isalpha() for c in plain) and not BOILERPLATE.search(plain):
            paragraphs.append(plain)
    return paragraphs


def speech(text: str) -> list[str]:
    """The paragraphs of a speech, one a line in the file: no titles (capitals alone, or dated lines before the speech), applause, captions or notes."""
    paragraphs = []
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
SETS: dict[str, tuple[Callable[[Path], Splits | Articles], str]] = {
    "books": (books, "by work: 2 % validation, 2 % test, by sha1 of author/title"),
    "speeches": (speeches, "by speech: 2 % validation, 2 % test, by sha1 of the file's name"),
    "wikitext2": (wikitext2, "as published"),
}


def write(path: Path, content: list[dict] | dict) -> int:
    """Writes one split, by a temporary name first. Returns the number of records, for the SQuAD layout the number of questions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        if isinstance(content, dict):
            json.dump(content, file, ensure_ascii=False)
        else:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in content)
    os.replace(temporary, path)
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
