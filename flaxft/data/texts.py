"""The texts of a record, one or a pair: in which columns they stand, and as tokens that fit an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxft.data.base import Record, Tokenizer
from flaxft.errors import UserError, nearest

# Where texts stand when task.text_columns does not say, in this order. The first is how a task's `decode` names a pair.
TEXTS = (("text", "text_pair"), ("text",), ("sentence",), ("sentence1", "sentence2"), ("sentence1",), ("premise", "hypothesis"))

HEAD, HEAD_TAIL, WINDOWS = LONG_TEXTS = ("head", "head_tail", "windows")  # what is read of a text that is longer than an example


def check_long_text(asked: str, columns: Sequence[str]) -> None:
    """Raises UserError for a `task.long_text` that is none, or is one for records of these columns of text that cuts pairs otherwise than at their ends."""
    if asked not in LONG_TEXTS:
        raise UserError(f"task.long_text is {asked!r}, expected one of {', '.join(LONG_TEXTS)}{nearest(asked, LONG_TEXTS)}")
    if asked != HEAD and len(columns) > 1:
        raise UserError(f"task.long_text is {asked!r}, but pairs of texts are cut at their ends; leave it at {HEAD}, or give one column of text")


def reads_more(task: Any) -> bool:
    """Whether a task that cuts long texts at their ends could read more of them, by its field `long_text`."""
    return getattr(task, "long_text", "") == HEAD and len(getattr(task, "text_columns", ())) < 2


def check_columns(asked: Sequence[str]) -> None:
    """Raises UserError for a `task.text_columns` that no text or pair can stand in."""
    if len(asked) > 2:
        raise UserError(f"task.text_columns names {len(asked)} columns ({list(asked)}); give one, or two for a pair")


def text_columns(record: Record, asked: Sequence[str], *, allow_raw: bool) -> tuple[str, ...]:
    """The columns of a record's text: those asked for, or the first of `TEXTS` that are there. Raises UserError.

    Raw text comes when predicting, whatever columns the training data has: with `allow_raw` (a record without label) the names of `TEXTS[0]` serve too.
    """
    names = tuple(map(str, asked))
    raw = TEXTS[0][: len(names)]
    if not names:
        found = next((columns for columns in TEXTS if all(name in record for name in columns)), None)
        if found is None:
            raise UserError(f"no column of text; found are {sorted(record)}; set task.text_columns")
        return found
    missing = next((name for name in names if name not in record), None)
    if missing is None:
        return names
    if allow_raw and all(name in record for name in raw):
        return raw
    raise UserError(f"no column {missing!r}; found are {sorted(record)}; set task.text_columns{nearest(missing, record)}")


def texts_of(record: Record, asked: Sequence[str], *, allow_raw: bool) -> list[str]:
    """The text, or both, of a record. Raises UserError for what is no text."""
    texts = []
    for name in text_columns(record, asked, allow_raw=allow_raw):
        text = record[name]
        if not isinstance(text, str):
            raise UserError(f"column {name!r} is {str(text)[:40]!r} ({type(text).__name__}), expected text; write it as a string")
        texts.append(text)
    return texts


def named(texts: Sequence[str]) -> dict[str, str]:
    """{"text": ...}, of a pair with "text_pair": how results name what they are of."""
    return dict(zip(TEXTS[0], texts, strict=False))


def text_tokens(texts: Sequence[str], tokenizer: Tokenizer, *, max_length: int) -> tuple[dict[str, np.ndarray], int]:
    """`(tokens, num_cut)` of one text or a pair: int32 (n,) arrays `input_ids` and, of a pair, `token_type_ids`.

    What is longer than `max_length` is cut at its end, of a pair the longer text first; num_cut says how much. Raises UserError.
    """
    all_ids = [tokenizer.text(text)[0] for text in texts]
    if len(all_ids) == 1:
        ids = all_ids[0][: max_length - tokenizer.num_special]
        return {"input_ids": tokenizer.wrap(ids)}, len(all_ids[0]) - len(ids)
    first, second = all_ids
    num_special = len(tokenizer.wrap_pair(first[:0], second[:0])[0])
    if max_length <= num_special:
        raise UserError(f"data.max_length is {max_length}, but a pair has {num_special} special tokens; give at least {num_special + 1}")
    num_first, num_second = longest_first(len(first), len(second), capacity=max_length - num_special)
    ids, types = tokenizer.wrap_pair(first[:num_first], second[:num_second])
    return {"input_ids": ids, "token_type_ids": types}, len(first) + len(second) - num_first - num_second


def text_examples(
    texts: Sequence[str], tokenizer: Tokenizer, *, max_length: int, long_text: str
) -> tuple[list[dict[str, np.ndarray]], int]:
    """`([tokens of each example], num_cut)` of one text or a pair, as `text_tokens` gives them: one example, or of a long text with `WINDOWS` several.

    Raises UserError; so for a pair with another `long_text` than `HEAD`.
    """
    check_long_text(long_text, texts)
    if long_text == HEAD:
        tokens, num_cut = text_tokens(texts, tokenizer, max_length=max_length)
        return [tokens], num_cut
    ids = tokenizer.text(texts[0])[0]
    examples = token_ranges(len(ids), max_length - tokenizer.num_special, long_text=long_text)
    found = [{"input_ids": tokenizer.wrap(np.concatenate([ids[part.start : part.stop] for part in parts]))} for parts in examples]
    num_cut = 0 if long_text == WINDOWS else len(ids) - sum(map(len, examples[0]))
    return found, num_cut


def token_ranges(num_tokens: int, capacity: int, *, long_text: str) -> list[tuple[range, ...]]:
    """The runs of a text's tokens that stand in each of its examples, which holds `capacity`.

    `HEAD` is one example of the first tokens; `HEAD_TAIL` one of the first and the last, half of it each, an odd one more of the first; `WINDOWS` are as
    few examples as overlap by a quarter at least, all full, spread evenly from the first token to the last.
    """
    capacity = max(1, capacity)
    if num_tokens <= capacity:
        return [(range(num_tokens),)]
    if long_text == HEAD:
        return [(range(capacity),)]
    if long_text == HEAD_TAIL:
        tail = capacity // 2
        return [(range(capacity - tail), range(num_tokens - tail, num_tokens))]
    left = num_tokens - capacity  # where the last window starts
    num = -(-left // (capacity - capacity // 4))
    return [(range(start, start + capacity),) for start in (round(i * left / num) for i in range(num + 1))]


def longest_first(num_first: int, num_second: int, *, capacity: int) -> tuple[int, int]:
    """How many tokens of each text stay, as `tokenizers` cuts with its strategy "longest_first": the longer text is cut down to the shorter, then both."""
    if num_first + num_second <= capacity:
        return num_first, num_second
    shorter, longer = sorted((num_first, num_second))
    if shorter > capacity // 2:  # both are cut; an odd token is the longer one's
        shorter = capacity // 2
    longer = capacity - shorter
    return (longer, shorter) if num_first > num_second else (shorter, longer)


def check_token_types(tokenizer: Tokenizer, config: Mapping[str, Any], *, model: str) -> None:
    """A pair needs as many token types as the tokenizer gives it: a table looked up beyond its end gives NaN. Raises UserError."""
    empty = np.zeros(1, np.int32)
    needed = int(tokenizer.wrap_pair(empty, empty)[1].max()) + 1
    held = config.get("type_vocab_size", needed)
    if needed > held:
        raise UserError(f"a pair of texts has {needed} token types, but {model} has {held} (type_vocab_size); use another model, or one text column")
