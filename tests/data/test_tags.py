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


OUTSIDE = "outside IOB2 (O, B-TYPE, I-TYPE)"


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (["O B-PER", "O X-PER"], f"f:2: tag 'X-PER' {OUTSIDE}; mend the tag, or name the scheme in task.scheme"),
        (["O B-PER", "0 O"], f"f:2: tag '0' {OUTSIDE} (is 0 the letter O?); mend the tag, or name the scheme in task.scheme"),
        (["O B-PER I-PER", "O PER"], f"f:2: tag 'PER' {OUTSIDE}; mend the tag, or name the scheme in task.scheme"),
        (["O B-PER I-PER", "O B"], f"f:2: tag 'B' {OUTSIDE}; mend the tag, or name the scheme in task.scheme"),
    ],
)
def test_detect_names_the_place(sentences, message):
    with pytest.raises(UserError) as error:
        tags.detect([s.split() for s in sentences], where=lambda index: f"f:{index + 1}")
    assert str(error.value) == message


def tally(*sentences, num=1):
    """`num` times these sentences, each a string of tags, counted."""
    counted = tags.Tally()
    for number, sentence in enumerate(sentences * num):
        counted.add([tags.clean(tag) for tag in sentence.split()], number)
    return counted


@pytest.mark.parametrize(
    ("majority", "stray", "scheme", "num_wrong"),
    [
        (["I-PER I-PER O", "I-LOC B-LOC"], ["B-PER O"], "IOB1", 1),
        (["B-PER I-PER O", "B-LOC B-LOC"], ["I-PER O"], "IOB2", 1),
        (["B-PER I-PER O", "B-LOC B-LOC"], ["S-PER O"], "IOB2", 1),
        (["B-PER I-PER O", "B-LOC B-LOC"], ["B-PER M-PER I-PER"], "IOB2", 1),
        (["B-PER E-PER O", "S-LOC B-PER I-PER E-PER"], ["B-PER O"], "IOBES", 1),
        (["B-PER M-PER E-PER O", "S-LOC"], ["B-PER I-PER E-PER"], "BMES", 1),
        (["B-PER L-PER O", "U-LOC B-PER I-PER L-PER"], ["S-PER"], "BILOU", 1),
        (["I-PER I-PER O", "I-LOC B-LOC"], [], "IOB1", 0),
    ],
)
def test_the_scheme_is_voted(majority, stray, scheme, num_wrong):
    """One tag that is out of place decides nothing, in whatever sentence it stands."""
    for sentences in ([*stray, *majority * 50], [*majority * 50, *stray]):
        counted = tally(*sentences)
        assert (counted.scheme, counted.num_malformed(scheme)) == (scheme, num_wrong)


NEAR = {
    "underscore": "B_PER I_PER O B_creative_work O",
    "colon": "B:PER I:PER O B:creative_work O",
    "lower case": "b-PER i-PER o b-creative_work o",
    "letter last": "PER-B PER-I O creative_work-B O",
    "lower case, letter last": "PER_b PER_i o creative_work_b o",
    "slash": "B/PER I/PER O B/creative_work O",
}


@pytest.mark.parametrize("name", NEAR)
def test_near_schemes(name):
    counted = tally(NEAR[name], num=3)
    assert counted.scheme == "IOB2"
    read = [tags.canonical(tag) for tag in NEAR[name].split()]
    assert read == "B-PER I-PER O B-creative_work O".split()
    assert counted.near()
    tags.check(read, "IOB2", "here")


@pytest.mark.parametrize(
    ("written", "scheme"),
    [("B I O B", "IOB2"), ("b i o b", "IOB2"), ("I I O I B O I", "IOB1"), ("B- I- O B-", "IOB2"), ("B I E O S", "IOBES"), ("B I L O U", "BILOU")],
)
def test_tags_without_types(written, scheme):
    counted = tally(written, num=3)
    assert (counted.is_bare, counted.scheme) == (True, scheme)
    read = [tags.canonical(tag, bare=True) for tag in written.split()]
    assert read == [tag.upper().rstrip("-") + ("" if tag in "oO" else "-ENTITY") for tag in written.split()]
    assert tags.is_bare(["O", "B-ENTITY", "I-ENTITY"]) and not tags.is_bare(["O", "B-ENTITY", "B-PER"]) and not tags.is_bare(["O"])


@pytest.mark.parametrize(
    "written", ["NOUN VERB ADJ", "N V O P", "S:SG V:SG A:PL O", "NN-S VB-S JJ-S", "B M E S", "PER O LOC O", "s-nom e-acc s-dat", "I_x V_x N_x", "B I", "1 0 1"]
)
def test_tags_of_no_scheme(written):
    assert tally(written, num=3).scheme == "plain"


def test_blanks_are_no_part_of_a_tag_and_a_missing_one_is_known():
    assert [tags.clean(tag) for tag in ("O ", " B-PER\t", "-", "_", " - ", "-100", "NN")] == ["O", "B-PER", *[tags.MISSING] * 4, "NN"]
    assert tags.canonical("B- PER") == tags.canonical("B -PER") == tags.canonical("B PER") == "B-PER"


def test_missing_tags_are_no_chunks_and_break_none():
    written = ["B-PER", tags.MISSING, "I-PER", "L-PER", "O", "U-LOC", tags.MISSING, "O", tags.MISSING, "B-LOC", "L-LOC"]
    assert tags.to_iob2(written, "BILOU") == ["B-PER", "-100", "I-PER", "I-PER", "O", "B-LOC", "-100", "O", "-100", "B-LOC", "I-LOC"]
    counted = tags.Tally()
    counted.add(written, 0)
    assert (counted.scheme, counted.num_malformed("BILOU")) == ("BILOU", 0)
    assert tags.count_malformed(written, "BILOU") == 0
    tags.check(written, "BILOU", "here")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("(PERSON* * *) * (GPE)", "B-PERSON I-PERSON I-PERSON O B-GPE"),
        ("* * *", "O O O"),
        ("(GPE*) (ORG(PERSON*) * *) *", "B-GPE B-ORG I-ORG I-ORG O"),
        ("(ORG* (GPE) *)", "B-ORG I-ORG I-ORG"),
        ("B-PER O", None),
        ("( )", None),
        ("NN -LRB-", None),
    ],
)
def test_brackets_are_spans(written, read):
    assert tags.from_brackets(written.split()) == (read and read.split())


@pytest.mark.parametrize("written", ["(PERSON* *", "* *)", "(A)) *"])
def test_brackets_that_do_not_close(written):
    with pytest.raises(UserError, match="bracket"):
        tags.from_brackets(written.split())


def test_the_scheme_of_labels():
    for scheme, letters in tags.LETTERS.items():
        labels = ["O", *(f"{letter}-{kind}" for kind in ("LOC", "PER") for letter in letters)]
        assert tags.scheme_of_labels(labels) == {"IOB1": "IOB2"}.get(scheme, scheme)
    assert tags.scheme_of_labels(["NN", "VB"]) == "plain"
    assert tags.scheme_of_labels(["O", "B_PER", "I_PER"]) == "IOB2"


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
