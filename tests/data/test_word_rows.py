"""Tables with a word a row become sentences."""

from __future__ import annotations

import pytest

from flaxft.data import word_rows
from flaxft.data.source import open_source
from flaxft.errors import UserError

WORDS, TAGS = [["Anna", "ran"], ["To", "Rome", "now"]], [["B-PER", "O"], ["O", "B-LOC", "O"]]
TABLES = {
    "a number in each row": "sentence_id,word,tag\n1,Anna,B-PER\n1,ran,O\n2,To,O\n2,Rome,B-LOC\n2,now,O\n",
    "Kaggle's, filled once a sentence": "Sentence #,Word,POS,Tag\nSentence: 1,Anna,NNP,B-PER\n,ran,VBD,O\nSentence: 2,To,TO,O\n,Rome,NNP,B-LOC\n,now,RB,O\n",
    "with an index before it": ",sent_id,token,ner\n0,a,Anna,B-PER\n1,a,ran,O\n2,b,To,O\n3,b,Rome,B-LOC\n4,b,now,O\n",
    "as the text's column": "Sentence,Token,NER Tag\n1,Anna,B-PER\n1,ran,O\n2,To,O\n2,Rome,B-LOC\n2,now,O\n",
}


def opened(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    return open_source(str(tmp_path / "a.csv"), split="train", format="csv")


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_a_sentence_are_one_record(tmp_path, name):
    source = opened(tmp_path, TABLES[name])
    found = word_rows.group(source, word_rows.find(source))
    assert ([one["tokens"] for one in found], [one["tags"] for one in found]) == (WORDS, TAGS)
    assert [found.where(i).rpartition(":")[2] for i in range(2)] == ["2", "4"]


def test_blank_lines_end_sentences(tmp_path):
    source = opened(tmp_path, "word,pos\nAnna,NNP\nran,VBD\n\nTo,TO\nRome,NNP\nnow,RB\n")
    found = word_rows.group(source, word_rows.find(source))
    assert [one["tokens"] for one in found] == WORDS
    assert [found.where(i).rpartition(":")[2] for i in range(2)] == ["2", "5"]


def test_the_column_that_is_asked_for(tmp_path):
    source = opened(tmp_path, TABLES["Kaggle's, filled once a sentence"])
    rows = word_rows.find(source, tag="POS")
    assert rows == ("Sentence #", "Word", "POS")
    assert word_rows.group(source, rows)[0]["tags"] == ["NNP", "VBD"]


def test_a_table_that_does_not_say_where_sentences_end_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a.csv:2: a table with a word a row \('word', 'tag'\) that does not say where sentences end"):
        word_rows.find(opened(tmp_path, "word,tag\nAnna,B-PER\nran,O\nTo,O\n"))


@pytest.mark.parametrize(
    "content",
    ["text,label\ngood film,pos\nbad film,neg\n", "tokens,tags\nAnna ran,B-PER O\nTo Rome,O B-LOC\n", "id,sentence\n1,Anna\n2,Rome\n", "word\nAnna\n"],
)
def test_other_tables_are_none(tmp_path, content):
    assert word_rows.find(opened(tmp_path, content)) is None


@pytest.mark.parametrize(("word", "tag"), [("1", "3"), ("Wrod", ""), ("", "Tga"), ("Wrod", "Tga")])
def test_columns_that_are_not_there_make_no_table(tmp_path, word, tag):
    assert word_rows.find(opened(tmp_path, TABLES["Kaggle's, filled once a sentence"]), word=word, tag=tag) is None
