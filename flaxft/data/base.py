"""The words that the data path speaks: Source, Records, Features, Field, Batch, and what it needs of tokenizer and task."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

Record = Mapping[str, Any]
# R rows of T tokens with up to S examples each; numpy on the host, jax.Array on the devices. Packed and unpacked (S = 1) batches are the same to every model:
#   input_ids, token_type_ids, position_ids   int32 (R, T)    as in Hugging Face; positions restart at each example
#   segment_ids                               int32 (R, T)    0 is padding, 1..S the example of the row that a token belongs to
#   example_start                             int32 (R, S)    index of each example's first token
#   example_weight                            float32 (R, S)  0 for an empty slot
#   example_id                                int32 (R, S)    number of the feature; -1 is none
#   example_group                             int32 (R, S)    slots that a loss couples share a number from 0 to R S - 1; -1 is none
# and the task's own keys, as its `spec()` says.
Batch = dict[str, Any]

IGNORE = -100  # an integer label that no loss and no metric counts, as in Hugging Face


class Packaged(str):
    """The path of data that come with flaxft. A config's packaged validation and test splits are left out where the train split is one's own."""


class Source(Protocol):
    """Records at random access, without hidden state."""

    name: str  # what a message calls it: the path as the user gave it
    fingerprint: str  # sha256 of what the records were read from

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Record: ...
    def __iter__(self) -> Iterator[Record]: ...
    def where(self, index: int) -> str:
        """The place of a record for a message: `train.conll:17`."""
        ...


@dataclasses.dataclass(frozen=True)
class Look:
    """What one look at a split shows: how it was read, in one line, and what is implausible about it."""

    line: str  # "train.csv: 5,000 records; text in 'body', label in 'queue'; 77 labels: ...; the first: 'How do I ...' -> ..."
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(eq=False)
class Records:
    """A `Source`: record i stands at number `places[i]` of what `where_format` names."""

    name: str
    fingerprint: str
    records: Sequence[Record]
    places: Sequence[int | str]
    where_format: str  # "train.conll:{}" or "train.parquet: row {}"

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def where(self, index: int) -> str:
        return self.name + self.where_format.format(self.places[index])


@dataclasses.dataclass(eq=False)
class Chain:
    """A `Source` of several, one behind the other, which a training step mixes (`flaxft.data.packing.Part`).

    A record is `{"task": name, "record": the record of that source}`.
    """

    sources: Mapping[str, Source]
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)  # shares of a step, on any scale; empty goes by the sources' examples
    temperature: float = 1.0  # of shares that go by examples: examples ** (1 / temperature)
    name: str = dataclasses.field(init=False)
    fingerprint: str = dataclasses.field(init=False)
    starts: dict[str, int] = dataclasses.field(init=False)  # the number of each source's first record

    def __post_init__(self) -> None:
        self.name = " + ".join(source.name for source in self.sources.values())
        content = repr([(name, source.fingerprint) for name, source in self.sources.items()])
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        *starts, self._size = itertools.accumulate((len(source) for source in self.sources.values()), initial=0)
        self.starts = dict(zip(self.sources, starts, strict=True))

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Record:
        name, number = self._place(index)
        return {"task": name, "record": self.sources[name][number]}

    def __iter__(self) -> Iterator[Record]:
        return ({"task": name, "record": record} for name, source in self.sources.items() for record in source)

    def where(self, index: int) -> str:
        name, number = self._place(index)
        return self.sources[name].where(number)

    def _place(self, index: int) -> tuple[str, int]:
        for name, source in self.sources.items():
            if index < len(source):
                return name, index
            index -= len(source)
        raise IndexError(index)


class Features(NamedTuple):
    """One slot-to-be: an example, or one window of a long one.

    `tokens` are laid along T, `example` along S; positions inside `example` (spans) count from the example's first token.
    """

    tokens: dict[str, np.ndarray]  # (n,) each
    example: dict[str, np.ndarray]  # any shape each
    group: int = -1  # features of one record that a loss couples share a number >= 0
    host: dict[str, np.ndarray] = {}  # word ids, offsets: cached, never on the device
    num_cut: int = 0  # tokens that did not fit and stand in no feature of the record; `build_items` says so once per source


class Field(NamedTuple):
    """What a task adds to a batch under one name: `(R, T, *shape)` or `(R, S, *shape)`."""

    axis: Literal["T", "S"]
    shape: tuple[int, ...]
    dtype: str
    pad: float


class Tokenizer(Protocol):
    """What a task needs of a tokenizer; `flaxft.data.tokenize` makes one from a model directory."""

    max_length: int  # the longest example that the model's position table holds
    num_special: int  # special tokens that `wrap` adds
    num_prefix: int  # how many of them stand before the text
    mask_id: int | None  # of [MASK] or <mask>, where there is one

    @property
    def pieces(self) -> list[str]:
        """The vocabulary by number."""
        ...

    def words(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """`(ids, word_ids)`, int32 (n,) each, of pre-split words, without special tokens. Every word has at least one id."""
        ...

    def text(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(ids, word_ids, offsets)`: int32 (n,), (n,), (n, 2) of raw text, split by the tokenizer's own pre-tokenizer; offsets count characters."""
        ...

    def masked_text(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """`(ids, word_ids)`, int32 (n,) each, of raw text in which the tokenizer's own mask is a token; in `text` it is plain letters."""
        ...

    def wrap(self, ids: np.ndarray) -> np.ndarray:
        """One example's ids with the special tokens around them: [CLS] ids [SEP]."""
        ...

    def wrap_pair(self, ids: np.ndarray, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(ids, token_type_ids)` of two texts in one example: [CLS] ids [SEP] pair [SEP], or what the tokenizer makes of a pair."""
        ...


class Featurizer(Protocol):
    """What the data path needs of a task."""

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> Sequence[Features]: ...
