"""The formats of files: by which suffix or content each is known, and its reader."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from flaxft.data.arrow import is_arrow, is_parquet, read_arrow, read_parquet
from flaxft.data.brat import beside, read_brat
from flaxft.data.chats import with_text
from flaxft.data.columns import looks_like_columns, read_columns
from flaxft.data.compression import without_suffix
from flaxft.data.conllu import looks_like_conllu, read_conllu
from flaxft.data.content import Content, Placed, check_text
from flaxft.data.excel import is_excel, read_excel
from flaxft.data.json_lines import looks_like_json_lines, read_json
from flaxft.data.label_studio import looks_like_label_studio, read_label_studio
from flaxft.data.magic import refuse
from flaxft.data.ontonotes import looks_like_conll2012, read_conll2012
from flaxft.data.spacy_files import looks_like_docs, looks_like_pairs, read_doc_bin, read_docs, read_pairs
from flaxft.data.squad import looks_like_squad, questions_of, read_squad
from flaxft.data.tables import looks_like_words, read_csv, read_tsv
from flaxft.errors import UserError, nearest

BELOW = " row below the header"


class Format(NamedTuple):
    """A row of the table below, which is all that a new format needs beside its reader."""

    name: str  # as in task.format
    read: Callable[[Content], Placed]
    suffixes: tuple[str, ...] = ()
    sniff: Callable[[Content], bool] | None = None  # whether a file's content is of this format, by `Content.head` or its first bytes; raises nothing
    where: str = ":{}"  # how a place is said behind the file's name; most often it is a line
    is_text: bool = True  # the reader is given sound UTF-8 without NUL alone
    takes_comment: bool = False
    least: str = ""  # what a file without records is told beside that one is expected
    beside: Callable[[str], Sequence[str]] | None = None  # the paths of further files that belong to one, whose content `Content.beside` then has


# Of several formats with one suffix, the first whose sniffer knows the file is taken, or else the last one.
# Where the suffix is none of these, it is the first format whose sniffer knows the file.
FORMATS = (
    Format("parquet", read_parquet, (".parquet",), is_parquet, where=": row {}", is_text=False),
    Format("arrow", read_arrow, (".arrow", ".feather", ".ipc"), is_arrow, where=": row {}", is_text=False),
    Format("excel", read_excel, (".xlsx", ".xlsm"), is_excel, where=": row {}", is_text=False, least=BELOW),
    Format("squad", read_squad, (".json",), looks_like_squad, where=": {}"),
    Format("label_studio", read_label_studio, (".json",), looks_like_label_studio),
    Format("spacy_pairs", read_pairs, (".json", ".jsonl"), looks_like_pairs),
    Format("spacy_docs", read_docs, (".json",), looks_like_docs, where=": sentence {}"),
    Format("spacy", read_doc_bin, (".spacy",), where=": document {}", is_text=False),
    Format("brat", read_brat, (".ann",), beside=beside),
    Format("jsonl", read_json, (".jsonl", ".json"), looks_like_json_lines),
    Format("conllu", read_conllu, (".conllu", ".conllx", ".conll", ".txt"), looks_like_conllu, takes_comment=True),
    Format("conll2012", read_conll2012, (".conll",), looks_like_conll2012),
    Format("columns", read_columns, (".conll", ".bio", ".iob", ".iob2", ".txt"), looks_like_columns, takes_comment=True),
    Format("columns", read_columns, (".csv", ".tsv"), looks_like_words, takes_comment=True),
    Format("csv", read_csv, (".csv",), least=BELOW),
    Format("tsv", read_tsv, (".tsv",), least=BELOW),
    Format("text", lambda file: read_text(file)),
)
NAMES = tuple(dict.fromkeys(format.name for format in FORMATS))


def read_text(file: Content) -> Placed:
    """`{"text": line}` of each line that is not blank."""
    lines = ((number, line.removesuffix("\r")) for number, line in enumerate(file.lines(), 1))
    return ((number, {"text": line}) for number, line in lines if line.strip())


def find_format(name: str) -> Format:
    """The format of that name. Raises UserError."""
    found = next((format for format in FORMATS if format.name == name), None)
    if found is None:
        raise UserError(f"format={name!r} is unknown; use one of {', '.join(NAMES)}{nearest(name, NAMES)}")
    return found


def suffix_of(path: str) -> str:
    """The suffix that tells the format: `.csv` of `a.CSV.gz`."""
    return Path(without_suffix(path)).suffix.lower()


def guess_format(file: Content) -> Format:
    """The format of a file, by its suffix and its content. Raises UserError where neither tells."""
    suffix = suffix_of(file.path)
    fitting = [format for format in FORMATS if suffix in format.suffixes]
    for format in fitting or FORMATS:
        if format.sniff and format.sniff(file):
            return format
    if fitting:
        return fitting[-1]
    refuse(file, read_as="")
    check_text(file.data, file.path)  # a file in another encoding is told so
    raise UserError(f"{file.path}: cannot tell the format from the suffix or the content; set format to one of {', '.join(NAMES)}")


def read(file: Content, format: Format) -> Placed:
    """The place of each record, and the record: a question of SQuAD each, the messages of a conversation with their text. Raises UserError."""
    refuse(file, read_as=format.name)
    if format.is_text:
        check_text(file.data, file.path)
    is_told = False
    for place, record in format.read(file):
        for one in questions_of(record, file.path + format.where.format(place)):
            whole = with_text(one)
            if whole is not one and not is_told:
                is_told = True
                logging.getLogger("flaxft").info("%s: the text of a record is what its messages of the user say", file.path)
            yield place, whole
