"""The tokenizer of a model directory, and the windows of a text that is too long for it."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flaxft import files
from flaxft.errors import UserError, reason

if TYPE_CHECKING:
    import tokenizers

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt")
SIZE_CAP = 50 << 20  # bytes of a tokenizer.json; the largest encoder's (XLM-R, 250,000 pieces) has 17 MB


# Special tokens that steer a model: in a text they are letters. All others are a checkpoint's own ([E1], <url>), and one piece in a text as in PyTorch.
CONTROL = frozenset("[PAD] [UNK] [CLS] [SEP] [MASK] [BOS] [EOS] <pad> <unk> <s> </s> <mask> <cls> <sep> <bos> <eos>".split())


class SubwordTokenizer:
    """A `tokenizers.Tokenizer` seen as `flaxft.data.base.Tokenizer`: no truncation, no padding, and text never turns into [CLS], [SEP] and their like."""

    def __init__(self, backend: tokenizers.Tokenizer, *, max_length: int):
        backend.no_truncation()  # a tokenizer.json may carry both: MiniLM's pads to 128
        backend.no_padding()
        self.original, self.backend = backend, _with_own_tokens(backend)
        backend = self.backend
        backend.encode_special_tokens = True  # "[SEP]" in a text is five characters, not the end of the example
        self.max_length = max_length
        self.fingerprint = hashlib.sha256(backend.to_str().encode()).hexdigest()
        with_special, without = backend.encode("a", add_special_tokens=True).ids, backend.encode("a", add_special_tokens=False).ids
        start = next((i for i in range(len(with_special)) if with_special[i : i + len(without)] == without), 0)
        self._prefix, self._suffix = with_special[:start], with_special[start + len(without) :]
        self.num_special, self.num_prefix = len(self._prefix) + len(self._suffix), len(self._prefix)
        self._pair = backend.encode("a", "a", add_special_tokens=True)
        self._unknown = self._unknown_id()
        self.mask = next((token for token in ("[MASK]", "<mask>") if backend.token_to_id(token) is not None), None)
        self.mask_id: int | None = None if self.mask is None else backend.token_to_id(self.mask)

    def words(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """`(ids, word_ids)`, int32 (n,) each, without special tokens.

        A word that the normaliser leaves nothing of (U+200B, a lone combining mark) becomes one unknown token: so every word has a place for its label and
        gets its own prediction. Raises UserError for a word that is no text.
        """
        try:
            encoding = self.backend.encode(list(words), is_pretokenized=True, add_special_tokens=False)
        except TypeError:  # a number, None, or a lone surrogate
            raise UserError(f"{_not_text(words)} is not text; every word must be a string of valid Unicode") from None
        ids, word_ids = encoding.ids, encoding.word_ids
        empty = set(range(len(words))) - set(word_ids)
        if empty:
            all_words = np.r_[np.asarray(word_ids, np.int32), np.asarray(sorted(empty), np.int32)]
            all_ids = np.r_[np.asarray(ids, np.int32), np.full(len(empty), self._unknown, np.int32)]
            order = np.argsort(all_words, kind="stable")
            return all_ids[order], all_words[order]
        return np.asarray(ids, np.int32), np.asarray(word_ids, np.int32)

    def text(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(ids, word_ids, offsets)` of raw text, split by the tokenizer's own pre-tokenizer: int32 (n,), (n,), (n, 2) in characters."""
        try:
            encoding = self.backend.encode(text, add_special_tokens=False)
        except TypeError:
            raise UserError(f"{_not_text([text])} is not text; give a string of valid Unicode") from None
        offsets = np.asarray(encoding.offsets, np.int32).reshape(-1, 2)
        return np.asarray(encoding.ids, np.int32), np.asarray(encoding.word_ids, np.int32), offsets

    def masked_text(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """`(ids, word_ids)` of raw text in which the tokenizer's own mask stands for one unknown token, a word of its own: int32 (n,) each."""
        parts = [text] if self.mask is None else text.split(self.mask)
        ids, word_ids = self.text(parts[0])[:2]
        for part in parts[1:]:
            more, words = self.text(part)[:2]
            before = int(word_ids[-1]) + 1 if len(word_ids) else 0
            ids = np.concatenate([ids, np.asarray([self.mask_id], np.int32), more])
            word_ids = np.concatenate([word_ids, np.asarray([before], np.int32), words + np.int32(before + 1)])
        return ids, word_ids

    @property
    def pieces(self) -> list[str]:
        """The vocabulary by number; empty names where its numbers have gaps."""
        numbered = self.backend.get_vocab(with_added_tokens=True)
        names = [""] * (max(numbered.values()) + 1)
        for name, number in numbered.items():
            names[number] = name
        return names

    def wrap(self, ids: np.ndarray) -> np.ndarray:
        """[CLS] ids [SEP], int32 (n + num_special,)."""
        return np.concatenate([np.asarray(self._prefix, np.int32), ids, np.asarray(self._suffix, np.int32)])

    def wrap_pair(self, ids: np.ndarray, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(ids, token_type_ids)`, int32 each, of two texts in one example, as the tokenizer's own post-processor lays them out."""
        parts: list[np.ndarray] = []
        types: list[np.ndarray] = []
        places = self._pair.sequence_ids  # None for a special token, else 0 or 1
        for i, place in enumerate(places):
            if place is not None and i and places[i - 1] == place:
                continue  # the same text goes on
            parts.append(np.asarray([self._pair.ids[i]] if place is None else (ids, pair)[place], np.int32))
            types.append(np.full(len(parts[-1]), self._pair.type_ids[i], np.int32))
        return np.concatenate(parts), np.concatenate(types)

    def _unknown_id(self) -> int:
        found = _unknown_of(self.backend)
        if found is None:
            raise UserError("the tokenizer has no unknown token ([UNK] or <unk>); use the tokenizer files that belong to the checkpoint")
        return found


def _unknown_of(backend: tokenizers.Tokenizer) -> int | None:
    return next((number for token in ("[UNK]", "<unk>") if (number := backend.token_to_id(token)) is not None), None)


def _with_own_tokens(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer with those of its special tokens that steer nothing as plain added ones, which are found in a text."""
    from tokenizers import Tokenizer

    post_processed = {backend.id_to_token(number) for number in backend.encode("", "", add_special_tokens=True).ids}
    own = {token.content for token in backend.get_added_tokens_decoder().values() if token.special} - CONTROL - post_processed
    if not own:
        return backend
    content = json.loads(backend.to_str())
    for token in content["added_tokens"]:
        token["special"] = token["special"] and token["content"] not in own
    return Tokenizer.from_str(json.dumps(content))


def load_tokenizer(directory: Path, *, vocab_size: int, max_length: int) -> SubwordTokenizer:
    """Reads `tokenizer.json` with `tokenizers`, anything else through transformers. Raises UserError.

    `vocab_size` and `max_length` are the model's: a tokenizer with more pieces than embeddings is refused.
    """
    file = directory / "tokenizer.json"
    if file.is_file() and files.size(file) > SIZE_CAP:
        raise UserError(f"{file}: {files.size(file)} bytes, at most {SIZE_CAP} are read; is it the right file?")
    if file.is_file():
        backend = _with_named_tokens(_as_configured(_from_json(file), directory), directory, vocab_size=vocab_size)
    else:
        backend = _from_transformers(directory)
    num_pieces = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1  # not the vocabulary's size: its numbers may have gaps
    if num_pieces > vocab_size:
        raise UserError(
            f"{directory}: the tokenizer has {num_pieces} pieces but the model {vocab_size} embeddings; use the tokenizer files that belong to the checkpoint"
        )
    try:
        tokenizer = SubwordTokenizer(backend, max_length=max_length)
    except UserError as error:
        raise UserError(f"{directory}: {error}") from None
    except Exception as error:  # noqa: BLE001 (the Rust side raises the bare class, of a letter for which there is no piece and no unknown token)
        raise UserError(f"{directory}: the tokenizer cannot read a text ({reason(error)}); use the tokenizer files that belong to the checkpoint") from None
    if tokenizer.num_special == 0:
        raise UserError(f"{directory}: the tokenizer adds no [CLS] and [SEP]; use the tokenizer files that belong to the checkpoint")
    _tell_of_case(backend, directory)
    return tokenizer


def _tell_of_case(backend: tokenizers.Tokenizer, directory: Path) -> None:
    """Says where a tokenizer and its vocabulary disagree on capitals: BioBERT and SciBERT, cased, come without the setting, and are lowercased by default."""
    pieces = [piece for piece in backend.get_vocab(with_added_tokens=False) if not re.fullmatch(r"\[.*\]|<.*>", piece)]
    num_cased = sum(piece != piece.lower() for piece in pieces)
    letter = "A" if backend.normalizer is None else backend.normalizer.normalize_str("A")
    mend = f"{directory / 'tokenizer_config.json'} decides it"
    log = logging.getLogger("flaxft")
    if letter == "a" and num_cased > len(pieces) / 100:
        share = f"{num_cased:,} of the {len(pieces):,} pieces of its vocabulary have capitals, but its tokenizer lowercases every text and never uses them"
        log.warning('%s: %s; %s: {"do_lower_case": false} for a cased checkpoint', directory, share, mend)
    elif not num_cased and letter == "A" and backend.encode("A", add_special_tokens=False).ids == [_unknown_of(backend)]:
        log.info('%s: its vocabulary has no capitals and its tokenizer keeps them, so that words with one are unknown; %s', directory, mend)


def _from_json(file: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    try:
        content = file.read_text(encoding="utf-8")
        backend = Tokenizer.from_str(content)
        added = json.loads(content).get("added_tokens") or []
    except Exception as error:  # noqa: BLE001 (the Rust side raises the bare class)
        raise UserError(f"{file}: not a tokenizer ({reason(error)}); fetch it again") from None
    for token in added:  # `tokenizers` numbers them anew without a word where a number is beyond its vocabulary or taken
        if backend.token_to_id(token["content"]) != token["id"]:
            number = f"the added token {token['content']!r} has the number {token['id']}, which the vocabulary does not go on with"
            raise UserError(f"{file}: {number}; fetch it again")
    return backend


def _as_configured(backend: tokenizers.Tokenizer, directory: Path) -> tokenizers.Tokenizer:
    """What tokenizer_config.json says of BERT's normaliser holds over tokenizer.json, as in transformers; what it leaves out does not."""
    from tokenizers import normalizers

    settings = _object(directory / "tokenizer_config.json")
    ours = backend.normalizer
    if not isinstance(ours, normalizers.BertNormalizer) or settings.get("tokenizer_class") in ("PreTrainedTokenizerFast", "TokenizersBackend"):
        return backend
    names = {"lowercase": "do_lower_case", "strip_accents": "strip_accents", "handle_chinese_chars": "tokenize_chinese_chars"}
    before = {name: getattr(ours, name) for name in names}
    given = {name: settings[key] for name, key in names.items() if isinstance(settings.get(key), bool) and settings[key] != before[name]}
    if given:
        backend.normalizer = normalizers.BertNormalizer(clean_text=ours.clean_text, **(before | given))
        told = ", ".join(f"{names[name]} {str(value).lower()}" for name, value in given.items())
        logging.getLogger("flaxft").info("%s: %s, as tokenizer_config.json says; tokenizer.json says otherwise", directory, told)
    return backend


def _with_named_tokens(backend: tokenizers.Tokenizer, directory: Path, *, vocab_size: int) -> tokenizers.Tokenizer:
    """Adds tokens that only the files beside tokenizer.json name, as transformers does. Raises UserError for one of another number or without embedding."""
    from tokenizers import AddedToken

    known = {token.content for token in backend.get_added_tokens_decoder().values()} | CONTROL
    for name, file, number, settings in _named_tokens(directory):
        if name in known:
            continue
        known.add(name)
        add = backend.add_special_tokens if settings.get("special", True) else backend.add_tokens
        flags = {flag: bool(settings[flag]) for flag in ("single_word", "lstrip", "rstrip", "normalized") if flag in settings}
        add([AddedToken(name, **flags)])
        given = backend.token_to_id(name)
        assert given is not None, name
        if number is not None and given != number:
            raise UserError(f"{file}: the added token {name!r} has the number {number}, which the vocabulary does not go on with; fetch it again")
        if given >= vocab_size:
            mend = "save the model after model.resize_token_embeddings(len(tokenizer)), or take the token out of the file"
            raise UserError(f"{file}: the added token {name!r} has the number {given}, but the model {vocab_size} embeddings; {mend}")
    return backend


def _named_tokens(directory: Path) -> Iterator[tuple[str, Path, int | None, Mapping[str, Any]]]:
    """`(token, file, its number where that says it, its settings)` of all that the files beside a tokenizer add to it. Raises UserError."""
    config, added, special = (directory / name for name in ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"))
    settings, numbers, roles = (_object(file) for file in (config, added, special))
    decoder = settings.get("added_tokens_decoder")
    for number, token in sorted((decoder if isinstance(decoder, dict) else {}).items(), key=lambda item: int(item[0]) if item[0].isdecimal() else -1):
        if number.isdecimal() and isinstance(token, dict) and isinstance(token.get("content"), str):
            yield token["content"], config, int(number), token
    for name, number in sorted(((name, number) for name, number in numbers.items() if isinstance(number, int)), key=lambda item: item[1]):
        yield name, added, number, {"special": False, "normalized": True}
    for file, content in ((config, settings), (special, roles)):
        for field in ("additional_special_tokens", "extra_special_tokens"):  # the second is transformers 5's name for the first
            tokens = content.get(field) or []
            for token in tokens.values() if isinstance(tokens, dict) else tokens if isinstance(tokens, list) else []:
                flags = token if isinstance(token, dict) else {"content": token, "normalized": False}
                if isinstance(flags.get("content"), str):
                    yield flags["content"], file, None, flags | {"special": True}


def _object(file: Path) -> dict[str, Any]:
    """A small JSON file's object; empty where there is none. Raises UserError."""
    if not file.is_file():
        return {}
    if files.size(file) > SIZE_CAP:
        raise UserError(f"{file}: {files.size(file)} bytes, at most {SIZE_CAP} are read; is it the right file?")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON ({error}); fetch it again") from None
    return content if isinstance(content, dict) else {}


def _from_transformers(directory: Path) -> tokenizers.Tokenizer:
    if not any((directory / name).is_file() for name in FILES) and not list(directory.glob("*.model")):
        raise UserError(f"{directory} holds no tokenizer files ({', '.join(FILES)}); copy those of the checkpoint there")
    from transformers import AutoTokenizer

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what transformers says of its own ways with tokenizers
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        _check_vocabulary(directory / "vocab.txt", tokenizer)
        return tokenizer.backend_tokenizer
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 (transformers raises whatever its many readers raise)
        raise UserError(f"{directory}: transformers cannot read its tokenizer ({reason(error)}); copy the checkpoint's tokenizer.json there") from None


def _check_vocabulary(file: Path, tokenizer: Any) -> None:
    """Of a WordPiece vocabulary, one piece a line: transformers adds special tokens that it lacks at its end, and takes the last of equal lines.

    Raises UserError for a token without which no text can be read, warns of others.
    """
    if not file.is_file():
        return
    try:
        pieces = [line.removesuffix("\r") for line in file.read_bytes().decode().removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 ({error}); use the tokenizer files that belong to the checkpoint") from None
    known = set(pieces)
    lacks = [token for token in (tokenizer.unk_token, tokenizer.cls_token, tokenizer.sep_token) if token is not None and token not in known]
    if lacks:
        raise UserError(f"{file}: no {', '.join(lacks)} among its {len(pieces)} pieces; use the tokenizer files that belong to the checkpoint")
    log = logging.getLogger("flaxft")
    for token in (tokenizer.pad_token, tokenizer.mask_token):
        if token is not None and token not in known:
            log.warning("%s: no %s; it gets the number %d, which the checkpoint never saw", file, token, tokenizer.convert_tokens_to_ids(token))
    first: dict[str, int] = {}
    again = [number for number, piece in enumerate(pieces, 1) if first.setdefault(piece, number) != number]
    if again:
        piece, more = pieces[again[0] - 1], f", and {len(again) - 1} lines like it" if again[1:] else ""
        log.warning("%s:%d: %r stands twice, first in line %d%s; as in transformers the last one counts", file, again[0], piece, first[piece], more)


def save_tokenizer(tokenizer: SubwordTokenizer, source: Path, directory: Path) -> None:
    """Writes tokenizer.json, and beside it the small files of `source` that transformers reads it with."""
    directory.mkdir(parents=True, exist_ok=True)
    files.write_text(directory / "tokenizer.json", tokenizer.original.to_str(pretty=True))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (source / name).is_file():
            files.write_bytes(directory / name, (source / name).read_bytes())


def windows(word_ids: np.ndarray, *, capacity: int) -> list[tuple[int, int]]:
    """Overlapping ranges `[start, end)` that cover all pieces, each at most `capacity` long and, where a word fits at all, cut between words.

    word_ids: (n,) the word of each piece, non-decreasing. A range starts so that about a quarter of the one before stands in it again.
    """
    n = len(word_ids)
    if n <= capacity:
        return [(0, n)]
    starts_word = np.flatnonzero(starts_words(word_ids))
    ranges = []
    start = 0
    while True:
        end = min(start + capacity, n)
        if end < n:
            cut = starts_word[np.searchsorted(starts_word, end, side="right") - 1]  # the last word start that is not beyond the end
            end = int(cut) if cut > start else end
        ranges.append((start, end))
        if end == n:
            return ranges
        # the first word start in the last quarter; a word longer than that is cut in the middle and goes on at `end`
        next_start = starts_word[np.searchsorted(starts_word, end - (end - start) // 4)] if starts_word[-1] >= end - (end - start) // 4 else end
        start = int(next_start) if start < next_start <= end else end


def starts_words(word_ids: np.ndarray) -> np.ndarray:
    """Bool (n,): which pieces are the first of their word. (`np.r_` says it shorter and takes ten times as long, for every record.)"""
    starts = np.ones(len(word_ids), bool)
    np.not_equal(word_ids[1:], word_ids[:-1], out=starts[1:])
    return starts


def best_window(word_ids: np.ndarray, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
    """For each word, the window in which its first piece has the most context: the number of pieces to the nearer cut, (num_words,) int32.

    The ends of the text are no cuts. Ties go to the earlier window. Words are 0 .. word_ids.max().
    """
    num_words = word_ids[-1] + 1 if len(word_ids) else 0
    if len(ranges) == 1:
        return np.zeros(num_words, np.int32)
    first_piece = np.searchsorted(word_ids, np.arange(num_words))
    best, owner = np.full(len(first_piece), -1), np.zeros(len(first_piece), np.int32)
    for number, (start, end) in enumerate(ranges):
        words = slice(*np.searchsorted(first_piece, (start, end)))
        left = np.full(len(first_piece[words]), len(word_ids)) if start == 0 else first_piece[words] - start
        right = np.full(len(first_piece[words]), len(word_ids)) if end == len(word_ids) else end - 1 - first_piece[words]
        context = np.minimum(left, right)
        owner[words] = np.where(context > best[words], number, owner[words])
        best[words] = np.maximum(context, best[words])
    return owner


def _not_text(words: Sequence[object]) -> str:
    """The first of `words` that is no text, for a message."""
    for word in words:
        if not isinstance(word, str):
            return repr(word)
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            return ascii(word)
    return repr(list(words))[:80]
