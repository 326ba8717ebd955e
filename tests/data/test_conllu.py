"""CoNLL-U and CoNLL-2012 files, and comments of column files: what is a word."""

from __future__ import annotations

import pytest

from flaxft.data.source import open_source
from flaxft.errors import UserError

UD = """# newdoc id = d1
# sent_id = 1
# text = V\u00e1monos al mar.
1-2\tV\u00e1monos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\tMood=Imp\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\tCase=Acc\t1\tobj\t_\tSpaceAfter=No

# sent_id = 2
1\t10 000\t10\tNUM\tCD\t_\t2\tnummod\t_\t_
2\teuros\teuro\tNOUN\tNN\t_\t0\troot\t_\t_
2.1\tsont\t\u00eatre\tVERB\tVB\t_\t_\t_\t_\t_
3\t#\t#\tSYM\t_\t_\t2\tdep\t_\t_
"""


def write(folder, name, content):
    (folder / name).write_text(content)
    return str(folder / name)


@pytest.mark.parametrize(("name", "fields"), [("a.conllu", {}), ("a.conll", {}), ("a.txt", {}), ("a", {}), ("a.conll", {"format": "columns"}),
                                              ("a.conllu", {"format": "columns", "comment": "#"})])  # fmt: skip
def test_ranges_empty_nodes_and_comments_are_no_words(tmp_path, name, fields):
    source = open_source(write(tmp_path, name, UD), split="train", **fields)
    assert [record["tokens"] for record in source] == [["Vamos", "nos"], ["10 000", "euros", "#"]]
    assert [record["upos"] for record in source] == [["VERB", "PRON"], ["NUM", "NOUN", "SYM"]]
    assert source[1]["deprel"] == ["nummod", "root", "dep"]
    assert "id" not in source[0]
    assert [source.where(i).rpartition(":")[2] for i in range(2)] == ["5", "9"]


@pytest.mark.parametrize("line", ["1\ta\tb\tX", "x\t" + "\t".join("abcdefghi"), "1 a b X _ _ 0 root _ _"])
def test_what_is_no_row_is_refused_with_its_line(tmp_path, line):
    with pytest.raises(UserError, match=r"a.conllu:12: found \d+ column\(s\) .*set format='columns'"):
        open_source(write(tmp_path, "a.conllu", UD.rstrip("\n").rpartition("\n")[0] + f"\n{line}\n"), split="train")


def test_ten_columns_that_do_not_count_are_a_column_file(tmp_path):
    content = "\n".join("\t".join([word, *"abcdefgh", "O"]) for word in ("Anna", "left"))
    assert open_source(write(tmp_path, "a.conll", content), split="train")[0]["0"] == ["Anna", "left"]


CONLL2012 = """#begin document (bn/abc/00); part 000
bn/abc/00 0 0 Anna NNP (TOP(S(NP* - - - Speaker#1 (PERSON* (ARG0* (12
bn/abc/00 0 1 Berg NNP *) - - - Speaker#1 *) *) 12)
bn/abc/00 0 2 left VBD (VP*)))) leave 01 1 Speaker#1 * (V*) -

bn/abc/00 0 0 Oslo NNP (TOP*) - - - Speaker#1 (GPE) -

#end document
"""


@pytest.mark.parametrize("name", ["a.conll", "a.v4_gold_conll"])
def test_conll2012(tmp_path, name):
    source = open_source(write(tmp_path, name, CONLL2012), split="train")
    assert list(source) == [
        {"tokens": ["Anna", "Berg", "left"], "pos_tags": ["NNP", "NNP", "VBD"], "ner_tags": ["(PERSON*", "*)", "*"]},
        {"tokens": ["Oslo"], "pos_tags": ["NNP"], "ner_tags": ["(GPE)"]},
    ]


COMMENTED = {
    "id": "# id = 1\nAnna B-PER\nleft O\n\n# id = 2\nOslo B-LOC\n",
    "no key": "# first\tdoc\tx\nAnna\tB-PER\nleft\tO\n\n# second\tdoc\tx\nOslo\tB-LOC\n",
    "as many columns": "# 1\nAnna B-PER\nleft O\n\n# 2\nleft O\nOslo B-LOC\n\n# 3\nOslo B-LOC\nleft O\n",
    "of the document alone": "# newdoc = d1\nAnna B-PER\nleft O\n\nOslo B-LOC\n",
    "# is a word too": "# id = 1\nAnna B-PER\n# O\n\n# id = 2\nOslo B-LOC\n",
}


@pytest.mark.parametrize("name", COMMENTED)
def test_comments_before_sentences_are_no_words(tmp_path, name):
    source = open_source(write(tmp_path, "a.conll", COMMENTED[name]), split="train")
    words = [word for record in source for word in record["0"]]
    assert [word for word in words if word != "#"][:2] == (["Anna", "Oslo"] if name == "# is a word too" else ["Anna", "left"])
    assert words.count("#") == (1 if name == "# is a word too" else 0)


@pytest.mark.parametrize("content", ["# O\nAnna B-PER\n\n# O\nOslo B-LOC\n", "# O\nAnna B-PER\n\nOslo B-LOC\n", "# O\n\n# O\n", "Anna B-PER\n# O\n"])
def test_the_word_of_tweets_stays_one(tmp_path, content):
    source = open_source(write(tmp_path, "a.conll", content), split="train")
    assert "#" in [word for record in source for word in record["0"]]
