"""The tokenizer of a model directory: what it takes, what it refuses, and the windows of a long text, by their properties."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft.data import tokenize
from flaxft.data.tokenize import SubwordTokenizer, best_window, load_tokenizer, save_tokenizer, windows
from flaxft.errors import UserError
from tests import tiny

FAST = settings(max_examples=300, deadline=None, derandomize=True)
CASED = Path(__file__).parents[3] / "shared/data/vocab/bert-base-cased"
TEXTS = [
    "Anna lives in Paris.",
    "It isn't O'Neill-Smith's naïve résumé, is it?",
    "Jose\u0301 visited 東京 and Köln on 2021-03-04 😀!",
    "zero\u200bwidth \ufeffbom so\u00adft \ufe0f \u0301 \u2028 \ufffd \ue000",
    "tab\tand  spaces\n" + "x" * 101 + " " + "y" * 100,
    "Ωmega ﬁsh İstanbul ß ªº ١٢٣",
]


# ---- windows ----


@st.composite
def word_ids(draw):
    """The word of each piece, from the number of pieces of each word."""
    lengths = draw(st.lists(st.one_of(st.integers(1, 3), st.integers(1, 15)), max_size=40))
    return np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)


@FAST
@given(words=word_ids(), capacity=st.integers(1, 20))
def test_windows(words, capacity):
    n, ranges = len(words), windows(words, capacity=capacity)
    starts, ends = np.array(ranges).T
    assert (starts[0], ends[-1]) == (0, n)
    assert len(ranges) == 1 if n <= capacity else len(ranges) > 1
    assert all(0 < end - start <= capacity for start, end in ranges) or n == 0
    assert (starts[1:] > starts[:-1]).all()  # it goes on
    assert (starts[1:] <= ends[:-1]).all()  # without a gap
    num_pieces = np.bincount(words)
    for cut in {*starts, *ends} - {0, n}:
        if words[cut - 1] == words[cut]:
            assert num_pieces[words[cut]] > capacity, "a word that fits was cut"
    for (start, end), next_start in zip(ranges, starts[1:], strict=False):  # a word start in the last quarter begins the next window
        tail = np.arange(max(end - (end - start) // 4, start + 1), end)
        first = tail[words[tail] != words[tail - 1]]
        assert next_start == (first[0] if len(first) else end)
    for word in np.flatnonzero(num_pieces <= capacity):
        at = np.flatnonzero(words == word)
        assert any(start <= at[0] and at[-1] < end for start, end in ranges), "a word that fits stands whole nowhere"


@FAST
@given(words=word_ids(), capacity=st.integers(1, 20))
def test_best_window(words, capacity):
    n, ranges = len(words), windows(words, capacity=capacity)
    owner = best_window(words, ranges)
    assert owner.dtype == np.int32
    assert owner.shape == (len(set(words.tolist())),)

    def context(piece, start, end):
        if not start <= piece < end:
            return -1
        return min(n if start == 0 else piece - start, n if end == n else end - 1 - piece)

    for word, number in enumerate(owner):
        first = int(np.flatnonzero(words == word)[0])
        contexts = [context(first, start, end) for start, end in ranges]
        assert contexts[number] >= 0, "the owner lacks the word's first piece"
        assert number == contexts.index(max(contexts))
        if (words == word).sum() <= capacity:
            start, end = ranges[number]
            assert (words[start:end] == word).sum() == (words == word).sum(), "the owner has only a part of a word that fits"


def test_windows_of_single_pieces():
    """Overlap of a quarter, spelled out; a word is predicted where more stands around it."""
    ranges = windows(np.arange(20), capacity=8)
    assert ranges == [(0, 8), (6, 14), (12, 20)]
    assert best_window(np.arange(20), ranges).tolist() == [0] * 7 + [1] * 6 + [2] * 7
    assert windows(np.zeros(7, np.int32), capacity=3) == [(0, 3), (3, 6), (6, 7)]  # one word, longer than a window
    assert windows(np.zeros(0, np.int32), capacity=3) == [(0, 0)]


# ---- the tokenizer ----


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("tokenize") / "encoder")


@pytest.fixture(scope="module")
def tokenizer(directory):
    return load_tokenizer(directory, vocab_size=128, max_length=64)


def test_truncation_and_padding_are_reset(directory, tokenizer):
    stored = json.loads((directory / "tokenizer.json").read_text())
    assert stored["padding"] is not None
    assert stored["truncation"] is not None, "the fixture lost what this test is about"
    ids, word_ids = tokenizer.words(["anna"] * 3)
    assert (len(ids), word_ids.tolist()) == (3, [0, 1, 2])
    ids, word_ids = tokenizer.words(["anna"] * 100)
    assert word_ids.tolist() == list(range(100))
    assert len(tokenizer.text("anna " * 100)[0]) == 100
    after = json.loads(tokenizer.backend.to_str())
    assert after["padding"] is after["truncation"] is None


def test_text_offsets(tokenizer):
    text = "Anna  livés, in 東京 \U0001f600 (paris)x."
    ids, word_ids, offsets = tokenizer.text(text)
    assert ids.dtype == word_ids.dtype == offsets.dtype == np.int32
    assert len(ids) == len(word_ids) == len(offsets)
    spans = {int(word): text[offsets[word_ids == word][0, 0] : offsets[word_ids == word][-1, 1]] for word in word_ids}
    assert list(spans.values()) == ["Anna", "livés", ",", "in", "東", "京", "\U0001f600", "(", "paris", ")", "x", "."]
    assert list(spans) == sorted(spans)


@FAST
@given(st.text(max_size=60))
def test_text_offsets_of_any_text(tokenizer, text):
    ids, word_ids, offsets = tokenizer.text(text)
    assert len(ids) == len(word_ids) == len(offsets)
    assert (np.diff(word_ids) >= 0).all()
    assert (offsets[:, 0] <= offsets[:, 1]).all()
    assert (offsets[:, 1] <= len(text)).all()
    assert not set(ids.tolist()) & {2, 3, 4}, "text became a special token"


@FAST
@given(st.lists(st.one_of(st.sampled_from([*tiny.WORDS, "[SEP]", "[CLS] a", "[MASK]", "", " ", "\u200b"]), st.text(max_size=8)), min_size=1, max_size=20))
def test_every_word_has_a_piece(tokenizer, words):
    ids, word_ids = tokenizer.words(words)
    assert len(ids) == len(word_ids)
    assert np.unique(word_ids).tolist() == list(range(len(words)))
    assert (np.diff(word_ids) >= 0).all()
    assert not set(ids.tolist()) & {0, 2, 3, 4}, "a word became a special token"
    for number, word in enumerate(words):  # neighbours change nothing
        assert ids[word_ids == number].tolist() == tokenizer.words([word])[0].tolist()


@pytest.mark.parametrize("word", [None, 3, 1.5, True, b"anna", ["anna"], "\ud800", "an\udfffna"])
def test_what_is_no_text_is_named(tokenizer, word):
    name = ascii(word) if isinstance(word, str) else repr(word)
    with pytest.raises(UserError) as error:
        tokenizer.words(["anna", word, "bob"])
    assert str(error.value).startswith(f"{name} is not text")
    if isinstance(word, str):
        with pytest.raises(UserError) as error:
            tokenizer.text(f"anna {word}")
        assert "is not text" in str(error.value)


def test_wrap(tokenizer):
    wrapped = tokenizer.wrap(np.array([7, 8], np.int32))
    assert (wrapped.tolist(), wrapped.dtype) == ([2, 7, 8, 3], np.int32)
    assert tokenizer.wrap(np.zeros(0, np.int32)).tolist() == [2, 3]
    assert (tokenizer.num_special, tokenizer.num_prefix, tokenizer.max_length) == (2, 1, 64)


def test_fingerprint_is_of_the_content(directory, tokenizer, tmp_path):
    again = load_tokenizer(directory, vocab_size=128, max_length=64)
    assert again.fingerprint == tokenizer.fingerprint
    stored = json.loads((directory / "tokenizer.json").read_text())
    stored["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    assert load_tokenizer(tmp_path, vocab_size=128, max_length=64).fingerprint != tokenizer.fingerprint


# ---- loading ----


def changed(directory, tmp_path, change):
    stored = json.loads((directory / "tokenizer.json").read_text())
    change(stored)
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    return tmp_path


def refused(directory, *, vocab_size=128):
    with pytest.raises(UserError) as error:
        load_tokenizer(directory, vocab_size=vocab_size, max_length=64)
    message = str(error.value)
    assert message.startswith(str(directory))
    assert "\n" not in message
    return message


def test_no_files(tmp_path):
    assert "no tokenizer files" in refused(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(tiny.ENCODER))
    assert "no tokenizer files" in refused(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"version": "1.0"}', '{"model": {"type": "Strange"}}', "\ufeff{}", "\0"])
def test_broken_json(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    assert "not a tokenizer" in refused(tmp_path)


def test_cut_off_json(directory, tmp_path):
    content = (directory / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(content[: len(content) // 2])
    assert "not a tokenizer" in refused(tmp_path)


def test_more_pieces_than_embeddings(directory):
    num = max(json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"].values()) + 1
    assert load_tokenizer(directory, vocab_size=num, max_length=64).num_special == 2
    assert f"{num} pieces" in refused(directory, vocab_size=num - 1)


def test_a_piece_beyond_the_embeddings(directory, tmp_path):
    """Few pieces, but one with a high number: its embedding would be read from beyond the table."""
    changed(directory, tmp_path, lambda stored: stored["model"]["vocab"].update(anna=500))
    assert "501 pieces" in refused(tmp_path)


def test_no_special_tokens(directory, tmp_path):
    changed(directory, tmp_path, lambda stored: stored.update(post_processor=None))
    assert "adds no [CLS] and [SEP]" in refused(tmp_path)


def test_no_unknown_token(directory, tmp_path):
    def change(stored):
        del stored["model"]["vocab"]["[UNK]"]
        stored["added_tokens"] = [token for token in stored["added_tokens"] if token["content"] != "[UNK]"]

    changed(directory, tmp_path, change)
    assert re.search("unknown token|not a tokenizer", refused(tmp_path))


def test_no_piece_for_a_letter_and_no_unknown_token(directory, tmp_path):
    """The Rust side raises when it meets a letter that it has no piece of, and no class of its own."""
    changed(directory, tmp_path, lambda stored: (stored["model"].update(unk_token="[NONE]", vocab={"[UNK]": 1}), stored.update(added_tokens=[])))
    assert "cannot read a text" in refused(tmp_path)


def test_vocabulary_that_is_no_text(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\n\xff\n")
    tokens = SimpleNamespace(unk_token="[UNK]")
    with pytest.raises(UserError, match=r"vocab.txt: not UTF-8"):
        tokenize._check_vocabulary(tmp_path / "vocab.txt", tokens)


def test_a_file_too_large(directory, tmp_path, monkeypatch):
    shutil.copy(directory / "tokenizer.json", tmp_path)
    monkeypatch.setattr(tokenize, "SIZE_CAP", 100)
    assert "at most 100 are read" in refused(tmp_path)


def test_broken_vocab(tmp_path):
    """Without tokenizer.json, transformers reads the directory; whatever it raises is one line."""
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "config.json").write_text(json.dumps(tiny.ENCODER))
    assert "tokenizer" in refused(tmp_path)


# ---- transformers reads the same ----


def assert_same_ids(tokenizer, reference):
    for text in [*TEXTS, *(text.lower() for text in TEXTS)]:
        assert tokenizer.wrap(tokenizer.text(text)[0]).tolist() == reference(text)["input_ids"], text
        words = text.split(" ")
        encoded = reference(words, is_split_into_words=True)
        ids, word_ids = tokenizer.words(words)
        kept = np.isin(word_ids, [word for word in encoded.word_ids() if word is not None])  # but the words that transformers finds nothing of
        assert tokenizer.wrap(ids[kept]).tolist() == encoded["input_ids"], words
        assert word_ids[kept].tolist() == encoded.word_ids()[1:-1], words


@pytest.mark.skipif(not CASED.is_dir(), reason=f"{CASED} is not there")
@pytest.mark.parametrize("names", [("vocab.txt", "config.json"), ("vocab.txt", "config.json", "tokenizer_config.json")], ids=["bare", "with tokenizer_config"])
def test_a_directory_without_tokenizer_json(tmp_path, names):
    from transformers import AutoTokenizer

    for name in names:
        shutil.copy(CASED / name, tmp_path)
    tokenizer = load_tokenizer(tmp_path, vocab_size=28996, max_length=512)
    assert_same_ids(tokenizer, AutoTokenizer.from_pretrained(tmp_path))
    vocab = (tmp_path / "vocab.txt").read_text().split("\n")
    ids, word_ids = tokenizer.words(["playing", "Anna", "##ing", "unaffable", "[SEP]"])
    if "tokenizer_config.json" in names:
        assert [vocab[i] for i in ids] == ["playing", "Anna", "#", "#", "ing", "un", "##af", "##fa", "##ble", "[", "SE", "##P", "]"]
        assert word_ids.tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]

    save_tokenizer(tokenizer, tmp_path, tmp_path / "saved")
    shutil.copy(tmp_path / "config.json", tmp_path / "saved")
    assert_same_ids(tokenizer, AutoTokenizer.from_pretrained(tmp_path / "saved"))
    assert load_tokenizer(tmp_path / "saved", vocab_size=28996, max_length=512).fingerprint == tokenizer.fingerprint


def test_save_tokenizer(directory, tokenizer, tmp_path):
    from transformers import AutoTokenizer

    (tmp_path / "source").mkdir()
    (tmp_path / "source/tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64}))
    save_tokenizer(tokenizer, tmp_path / "source", tmp_path / "deep/saved")
    assert sorted(file.name for file in (tmp_path / "deep/saved").iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert_same_ids(tokenizer, AutoTokenizer.from_pretrained(tmp_path / "deep/saved"))

    save_tokenizer(tokenizer, directory, tmp_path / "bare")  # the checkpoint has tokenizer.json and nothing else
    shutil.copy(directory / "config.json", tmp_path / "bare")
    assert_same_ids(tokenizer, AutoTokenizer.from_pretrained(tmp_path / "bare"))
    assert SubwordTokenizer(tokenizer.backend, max_length=64).fingerprint == tokenizer.fingerprint


# ---- a checkpoint's own special tokens ----

OWN = ["[E1]", "[/E1]", "<url>", "@USER"]
OWN_TEXTS = [
    "[E1] anna [/E1] lives in [E1] paris [/E1] .", "anna[E1]bob", "see <url> now", "@USER was red", "@USER @USER <url><url>", "[e1] anna [ E1 ]",
    "[E1", "the [/E1]", "<url>", "a new acme at oslo !",
]  # fmt: skip
NUMBERS = {name: len(tiny.PIECES) + i for i, name in enumerate(OWN)}
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}


def in_tokenizer_json(directory: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.add_special_tokens(OWN)
    tokenizer.save(str(directory / "tokenizer.json"))


def in_file(file: str, content: dict) -> object:
    return lambda directory: (directory / file).write_text(json.dumps(content))


PLACES = {
    "tokenizer.json": in_tokenizer_json,
    "additional_special_tokens": in_file("tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "additional_special_tokens": OWN}),
    "extra_special_tokens": in_file("tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "extra_special_tokens": OWN}),
    "special_tokens_map.json": in_file("special_tokens_map.json", {"additional_special_tokens": OWN}),
    "added_tokens.json": in_file("added_tokens.json", NUMBERS),
    "added_tokens_decoder": in_file(
        "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": {str(number): {"content": name, **FLAGS} for name, number in NUMBERS.items()}},
    ),
}


@pytest.mark.parametrize("bare", [False, True], ids=["", "vocab.txt"])
@pytest.mark.parametrize("place", PLACES)
def test_own_special_tokens_are_one_piece(directory, tmp_path, place, bare):
    """Wherever a checkpoint names them, in texts and in words, as PyTorch's tokenizer has it; [SEP] stays letters, which is what keeps an example in one."""
    from transformers import AutoTokenizer

    shutil.copytree(directory, tmp_path / "own")
    PLACES[place](tmp_path / "own")
    if bare:
        if place == "tokenizer.json":
            pytest.skip("there is none")
        (tmp_path / "own/tokenizer.json").unlink()
        (tmp_path / "own/vocab.txt").write_text("\n".join(tiny.PIECES) + "\n")
    ours = load_tokenizer(tmp_path / "own", vocab_size=128, max_length=64)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "own")
    for text in OWN_TEXTS:
        assert ours.wrap(ours.text(text)[0]).tolist() == theirs(text)["input_ids"], text
        words = text.split()
        assert ours.words(words)[0].tolist() == theirs(words, is_split_into_words=True, add_special_tokens=False)["input_ids"], text
    if place != "added_tokens.json":  # which transformers looks for in lowered text
        assert [ours.pieces[i] for i in ours.text("[E1] anna")[0]] == ["[E1]", "anna"]
    assert len(ours.text("[SEP] [CLS] [MASK]")[0]) > 9

    save_tokenizer(ours, tmp_path / "own", tmp_path / "saved")
    shutil.copy(directory / "config.json", tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved", vocab_size=128, max_length=64)
    assert again.fingerprint == ours.fingerprint
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert [saved(text)["input_ids"] for text in OWN_TEXTS] == [theirs(text)["input_ids"] for text in OWN_TEXTS]


def test_no_own_special_tokens_change_nothing(tokenizer):
    assert tokenizer.original is tokenizer.backend


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("special_tokens_map.json", {"additional_special_tokens": [f"[T{i}]" for i in range(99)]}, r"the number 128, but the model 128 embeddings; .*resize"),
        ("added_tokens.json", {"[E1]": 100}, "'\\[E1\\]' has the number 100, which the vocabulary does not go on with"),
        ("added_tokens.json", "[", "not valid JSON"),
    ],
)
def test_an_own_token_that_does_not_fit(directory, tmp_path, file, content, message):
    shutil.copytree(directory, tmp_path / "own")
    (tmp_path / "own" / file).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path / "own", vocab_size=128, max_length=64)


# ---- capitals ----


CASED_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Anna", "anna", "Paris", "paris", "a"]
CASED_TEXTS = ["Anna Paris", "anna PARIS Zürich", "Anna[SEP]paris"]


def cased_directory(directory: Path, folder: Path, *, pieces: list[str] = CASED_PIECES, lowercase: bool | None, settings: dict | None) -> Path:
    """lowercase: what tokenizer.json says; None for vocab.txt alone. settings: tokenizer_config.json."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    shutil.copytree(directory, folder)
    (folder / "tokenizer.json").unlink()
    if lowercase is None:
        (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    else:
        tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        tokenizer.add_special_tokens(pieces[:5])
        tokenizer.save(str(folder / "tokenizer.json"))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("lowercase", "settings", "first", "warned"),
    [
        (None, None, "anna", True),  # BioBERT and SciBERT, cased: vocab.txt alone
        (None, {"do_lower_case": False}, "Anna", False),
        (None, {"do_lower_case": True}, "anna", True),
        (True, None, "anna", True),
        (True, {"tokenizer_class": "BertTokenizer", "do_lower_case": False}, "Anna", False),  # what mends the others
        (False, {"tokenizer_class": "BertTokenizer", "do_lower_case": True}, "anna", True),
        (False, {"do_lower_case": False}, "Anna", False),
        (True, {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False}, "anna", True),  # which goes by tokenizer.json
    ],
)
def test_a_cased_vocabulary_that_is_lowercased_is_told(directory, tmp_path, caplog, lowercase, settings, first, warned):
    """As PyTorch's tokenizer does it, in every case; the warning says what mends it."""
    from transformers import AutoTokenizer

    folder = cased_directory(directory, tmp_path / "cased", lowercase=lowercase, settings=settings)
    tokenizer = load_tokenizer(folder, vocab_size=128, max_length=64)
    assert tokenizer.pieces[tokenizer.text("Anna")[0][0]] == first
    assert ('2 of the 5 pieces of its vocabulary have capitals, but its tokenizer lowercases every text' in caplog.text) is warned
    assert ('tokenizer_config.json decides it: {"do_lower_case": false} for a cased checkpoint' in caplog.text) is warned
    theirs = AutoTokenizer.from_pretrained(folder)
    for text in CASED_TEXTS[:2]:
        assert tokenizer.wrap(tokenizer.text(text)[0]).tolist() == theirs(text)["input_ids"], text
    save_tokenizer(tokenizer, folder, tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved", vocab_size=128, max_length=64).fingerprint == tokenizer.fingerprint


def test_capitals_that_a_vocabulary_lacks_are_told(directory, tmp_path, caplog):
    caplog.set_level("INFO", "flaxft")
    pieces = [*CASED_PIECES[:5], "anna", "paris", "a"]
    load_tokenizer(cased_directory(directory, tmp_path / "keeps", pieces=pieces, lowercase=False, settings=None), vocab_size=128, max_length=64)
    assert "its vocabulary has no capitals and its tokenizer keeps them" in caplog.text
    caplog.clear()
    load_tokenizer(cased_directory(directory, tmp_path / "lowers", pieces=pieces, lowercase=True, settings=None), vocab_size=128, max_length=64)
    load_tokenizer(directory, vocab_size=128, max_length=64)
    assert caplog.text == ""


# ---- pairs ----


@pytest.mark.parametrize("single", ["[CLS] $A [SEP]", "<s> $A </s>"])
@pytest.mark.parametrize("pair", ["[CLS] $A [SEP] $B:1 [SEP]:1", "<s> $A </s> </s> $B </s>", "$A:0 [SEP]:0 $B:1 [SEP]:1 [CLS]:2"])
def test_pairs_are_laid_out_by_the_tokenizers_own_template(single, pair):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["[UNK]", "[CLS]", "[SEP]", "<s>", "</s>", "a", "b", "c"]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=[(name, i) for i, name in enumerate(names[1:5], 1)])
    tokenizer = SubwordTokenizer(backend, max_length=64)
    for first, second in (("a b c", "b"), ("", "c c"), ("a a a", ""), ("", "")):
        wanted = backend.encode(first, second)
        ids, types = tokenizer.wrap_pair(tokenizer.text(first)[0], tokenizer.text(second)[0])
        assert (ids.tolist(), types.tolist()) == (wanted.ids, wanted.type_ids)
        assert ids.dtype == types.dtype == np.int32
