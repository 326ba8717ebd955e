from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from flaxft.data import tags
from flaxft.errors import UserError

FAST = settings(max_examples=100, deadline=None, derandomize=True)
SCHEMES = ["IOB1", "IOB2", "IOBES", "BMES", "BILOU"]
# A sentence is a list of chunks (type or None for outside, length).
CHUNKS = st.lists(st.tuples(st.sampled_from([None, "PER", "LOC", "creative-work"]), st.integers(1, 4)), max_size=8)
# One of each: a single token, three tokens, neighbours of one type.
TELLING = [("PER", 1), (None, 1), ("PER", 3), ("PER", 2), (None, 1)]


def render(chunks, scheme):
    """The tags, straight from each scheme's definition and not from the table under test."""
    rendered, before = [], None
    for kind, length in chunks:
        if kind is None:
            rendered += ["O"] * length
        else:
            single, first, inside, last = {
                "IOB1": "BBII" if kind == before else "IIII",
                "IOB2": "BBII",
                "IOBES": "SBIE",
                "BMES": "SBME",
                "BILOU": "UBIL",
            }[scheme]
            rendered += [f"{letter}-{kind}" for letter in (single if length == 1 else first + inside * (length - 2) + last)]
        before = kind
    return rendered


@pytest.mark.parametrize("scheme", SCHEMES)
@FAST
@given(CHUNKS)
def test_every_scheme_converts_to_the_same_iob2(scheme, chunks):
    rendered = render(chunks, scheme)
    tags.check(rendered, scheme, "here")
    assert tags.to_iob2(rendered, scheme) == render(chunks, "IOB2")
    assert tags.count_malformed(rendered, scheme) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@FAST
@given(st.lists(CHUNKS, max_size=4))
def test_detect_knows_its_scheme(scheme, sentences):
    assert tags.detect([render(chunks, scheme) for chunks in [*sentences, TELLING]]) == scheme


@pytest.mark.parametrize("scheme", SCHEMES)
@FAST
@given(st.data())
def test_malformed_tags_read_as_conlleval_reads_them(scheme, data):
    letters = sorted(set(tags.LETTERS[scheme]))
    tag = st.one_of(st.just("O"), st.builds("{}-{}".format, st.sampled_from(letters), st.sampled_from(["PER", "LOC", "creative-work"])))
    sentence = data.draw(st.lists(tag, max_size=10))
    converted = tags.to_iob2(sentence, scheme)
    as_iobes = [{"M": "I", "L": "E", "U": "S"}.get(t[0], t[0]) + t[1:] for t in sentence]
    assert get_entities(converted) == get_entities(as_iobes)
    assert tags.count_malformed(converted, "IOB2") == 0 and tags.to_iob2(converted, "IOB2") == converted
    chunks, i = [], 0
    for kind, start, end in get_entities(as_iobes):
        chunks += [(None, 1)] * (start - i) + [(kind, end - start + 1)]
        i = end + 1
    proper = render(chunks + [(None, 1)] * (len(sentence) - i), scheme)
    assert tags.count_malformed(sentence, scheme) == sum(a != b for a, b in zip(sentence, proper, strict=True))


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        ([], "IOB2"),
        ([[]], "IOB2"),
        (["O O"], "IOB2"),
        (["O B-PER"], "IOB2"),
        (["I-PER O"], "IOB1"),
        (["I-PER I-PER B-PER"], "IOB1"),
        (["I-PER I-LOC O"], "IOB1"),
        (["B-PER I-PER I-LOC"], "IOB2"),  # the B starts a chunk after no neighbour: malformed IOB2
        (["I-PER", "B-PER I-PER"], "IOB2"),  # malformed: a sentence's first token has no neighbour before it
        (["S-PER O"], "IOBES"),
        (["B-PER E-PER"], "IOBES"),  # BMES without M, or IOBES without I: both read alike
        (["B-PER M-PER E-PER"], "BMES"),
        (["B-PER L-PER"], "BILOU"),  # no U, no I
        (["U-PER O"], "BILOU"),
        (["B-PER I-PER I-PER"], "IOB2"),
        (["I-PER E-PER E-PER O"], "IOBES"),  # IOE2
        (["NN VBZ -LRB- NNP-SBJ"], "plain"),
        (["PER O"], "plain"),
        (["B M E S"], "plain"),  # word segmentation: letters alone are labels like others
        (["I-creative-work B-creative-work"], "IOB1"),
    ],
)
def test_detect_of_small_files(sentences, scheme):
    assert tags.detect(s.split() if s else [] for s in sentences) == scheme


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (
            ["O B-PER", "O X-PER"],
            "f:2: tag 'X-PER' fits no scheme that the tags before it leave open: "
            "IOB2 (O, B-TYPE, I-TYPE), IOB1 (O, B-TYPE, I-TYPE), IOBES (O, B-TYPE, I-TYPE, E-TYPE, S-TYPE), "
            "BMES (O, B-TYPE, M-TYPE, E-TYPE, S-TYPE), BILOU (O, B-TYPE, I-TYPE, L-TYPE, U-TYPE); mend the tag, or name the scheme in task.scheme",
        ),
        (
            ["B-PER M-PER", "B-PER I-PER"],
            "f:2: tag 'I-PER' fits no scheme that the tags before it leave open: BMES (O, B-TYPE, M-TYPE, E-TYPE, S-TYPE); "
            "mend the tag, or name the scheme in task.scheme",
        ),
        (["O", "O", "PER-B PER-I"], "f:3: tag 'PER-B' has its letter at the end; write it first, as in 'B-PER'"),
    ],
)
def test_detect_names_the_place(sentences, message):
    with pytest.raises(UserError) as error:
        tags.detect([s.split() for s in sentences], where=lambda index: f"f:{index + 1}")
    assert str(error.value) == message


def test_malformed_iob2_is_counted():
    sentence = "O I-PER I-PER O B-LOC I-PER".split()
    assert tags.detect([sentence]) == "IOB2"
    assert tags.count_malformed(sentence, "IOB2") == 2
    assert tags.to_iob2(sentence, "IOB2") == "O B-PER I-PER O B-LOC B-PER".split()


@pytest.mark.parametrize("tag", ["X-PER", "B", "-PER", "", "B-", "BI-PER", "O-PER", "b-PER", "S-PER", "PER-B"])
def test_check_refuses(tag):
    with pytest.raises(UserError) as error:
        tags.check(["O", tag, "B-PER", tag], "IOB2", "train.conll:17")
    assert str(error.value) == f"train.conll:17: tag {tag!r} outside IOB2 (O, B-TYPE, I-TYPE); mend the tag, or name the scheme in task.scheme"


def test_check_names_all_at_once_and_lets_plain_tags_be():
    with pytest.raises(UserError, match="tags 'X', 'M-PER' outside BILOU"):
        tags.check(["X", "U-PER", "M-PER"], "BILOU", "here")
    tags.check(["NN", "-LRB-", "B"], "plain", "here")
    with pytest.raises(UserError, match="tag '' outside plain"):
        tags.check(["NN", ""], "plain", "here")


def test_continuation():
    assert [tags.continuation(tag) for tag in ("B-creative-work", "I-PER", "O", "NN")] == ["I-creative-work", "I-PER", "O", "NN"]
