"""What tasks show of their results: right figures, the worst first, spans on the right characters."""

from __future__ import annotations

from flaxft.data.base import Records
from flaxft.tasks.base import NUM_SHOWN, Matrix, Passages, Reliability, Span, Table
from flaxft.tasks.question_answering import QuestionAnswering
from flaxft.tasks.sequence_classification import SequenceClassification
from flaxft.tasks.token_classification import TokenClassification


def source(records: list[dict]) -> Records:
    return Records("x", "x", records, range(len(records)), where_format=":{}")


def named(sections: list) -> dict[str, object]:
    return {one.title: one for one in sections}


def test_entities():
    task = TokenClassification(labels=("O", "B-LOC", "I-LOC", "B-PER", "I-PER"), scheme="IOB2")
    words = "Anna went to New York City today".split()
    gold, given = "B-PER O O B-LOC I-LOC I-LOC O".split(), "B-LOC O O B-LOC I-LOC O B-PER".split()
    entities = [
        {"type": "LOC", "text": "Anna", "start": 0, "end": 4, "score": 0.55},
        {"type": "LOC", "text": "New York", "start": 13, "end": 21, "score": 0.95},
        {"type": "PER", "text": "today", "start": 27, "end": 32, "score": 0.56},
    ]
    wrong = {"text": " ".join(words), "words": words, "tags": given, "entities": entities}
    right = {"text": "Rome", "words": ["Rome"], "tags": ["B-LOC"], "entities": [{"type": "LOC", "text": "Rome", "start": 0, "end": 4, "score": 0.96}]}
    records = source([{"tokens": words, "ner_tags": gold}, {"tokens": ["Rome"], "ner_tags": ["B-LOC"]}])
    found = named(task.sections([wrong, right], records))
    errors = found["Errors by kind"]
    assert isinstance(errors, Table) and errors.header == ("kind", "entities", "LOC", "PER")
    assert errors.rows == (("missed", 0, 0, 0), ("invented", 1, 0, 1), ("boundary", 1, 1, 0), ("type", 1, 0, 1), ("boundary and type", 0, 0, 0))
    matrix = found["Which types are taken for which"]
    assert isinstance(matrix, Matrix) and matrix.labels == ("LOC", "PER", "(none)")
    assert matrix.counts == ((2, 0, 0), (1, 0, 0), (0, 1, 0))  # LOC: Rome, and New York in another boundary
    calibration = found["Calibration"]
    assert isinstance(calibration, Reliability) and [(num, right) for num, _, right in calibration.curves["score"]] == [(2.0, 0.0), (2.0, 0.5)]
    sentences, boundary = found["Sentences"], found["Boundary"]
    assert isinstance(sentences, Passages) and isinstance(boundary, Passages)
    assert sentences.total == 2 and sentences.passages[1].spans == (Span(0, 4, "LOC", "right"),)
    assert sentences.passages[0].spans == (
        Span(0, 4, "LOC", "wrong"), Span(13, 21, "LOC", "wrong"), Span(27, 32, "PER", "wrong"), Span(0, 4, "PER", "gold"), Span(13, 26, "LOC", "gold"),
    )  # fmt: skip
    assert boundary.passages[0].caption == "should be LOC 'New York City', given LOC 'New York'"
    assert "Missed" not in found and {"Invented", "Type"} <= set(found)


def test_plain_tags():
    task = TokenClassification(labels=("DET", "NOUN", "VERB"), scheme="plain")
    tokens = [{"tag": tag, "text": word, "start": 0, "end": 1, "score": 0.9} for tag, word in (("DET", "the"), ("VERB", "cat"))]
    decoded = [{"text": "the cat", "words": ["the", "cat"], "tags": ["DET", "VERB"], "tokens": tokens}]
    found = named(task.sections(decoded, source([{"tokens": ["the", "cat"], "tags": ["DET", "NOUN"]}])))
    passages = found["Sentences with wrong tags"]
    assert isinstance(passages, Passages) and passages.passages[0].spans == (Span(4, 7, "VERB, should be NOUN", "wrong"),)


def test_the_surest_mistakes_come_first_and_are_cut():
    task = SequenceClassification(labels=("a", "b"), text_columns=("text",))
    scores = [0.5 + i / 100 for i in range(40)]
    each = {i: {"label": "b", "score": score, "scores": {"a": 1 - score, "b": score}, "confidence": score} for i, score in enumerate(scores)}
    decoded = [{"text": f"text {i}"} | one for i, one in each.items()]
    records = source([{"text": f"text {i}", "label": "b" if i % 10 == 0 else "a"} for i in range(40)])
    found = named(task.sections(decoded, records))
    mistakes, matrix = found["Mistakes made with most confidence"], found["Confusion matrix"]
    assert isinstance(mistakes, Table) and isinstance(matrix, Matrix)
    assert mistakes.total == 36 and len(mistakes.rows) == NUM_SHOWN
    assert mistakes.rows[:2] == (("text 39", "a", "b", scores[39]), ("text 38", "a", "b", scores[38]))
    assert matrix.counts == ((0, 36), (0, 4))


def test_answers_stand_in_their_context():
    task = QuestionAnswering(version_2=False)
    context = f"{'x' * 1000} Rome is old. {'y' * 1000} Oslo is new."
    records = source([{"question": "Which is new?", "context": context, "answers": {"text": ["Oslo"], "answer_start": [context.index("Oslo")]}}] * 2)
    one = {"question": "Which is new?", "nbest": [], "score": 1.0}
    wrong = one | {"answer": "Rome", "start": 1001, "end": 1005, "probability": 0.75}
    right = one | {"answer": "Oslo", "start": context.index("Oslo"), "end": context.index("Oslo") + 4, "probability": 0.25}
    found = named(task.sections([wrong, right], records))
    for title, roles in (("Wrong answers, the surest first", ["wrong", "gold"]), ("Right answers", ["right"])):
        passages = found[title]
        assert isinstance(passages, Passages) and passages.total == 1
        (passage,) = passages.passages
        assert [span.role for span in passage.spans] == roles
        texts = [passage.text[span.start : span.end] for span in passage.spans]
        assert texts == (["Rome", "Oslo"] if roles[0] == "wrong" else ["Oslo"])
        assert passage.text.startswith("... ")
    assert found["Wrong answers, the surest first"].passages[0].caption == "Which is new? Given: 'Rome' (0.7500); gold: 'Oslo'; F1 0.00"
