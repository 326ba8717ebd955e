"""Blocks: the features of some records in a row, their arrays end to end. The table on disk is written from them, and worker processes hand them over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flaxft.data.base import Features
from flaxft.data.spool import pack, unpack

PARTS = ("tokens", "example", "host")


class Column(NamedTuple):
    """The arrays that features have under one name; not every feature has one, if it comes from different tasks."""

    dtype: str  # this and the shape are those of the first feature that has the array
    shape: list[int]  # -1 for the length that varies
    sizes: np.ndarray  # int64 (n,): bytes of each feature's array
    is_there: np.ndarray  # bool (n,)
    values: np.ndarray  # uint8


class Block(NamedTuple):
    """n features."""

    numbers: np.ndarray  # int32 (4, n): record, group, length, num_cut
    columns: dict[str, Column]  # by "tokens.input_ids" and the like, in the order in which features have them first

    def __len__(self) -> int:
        return int(self.numbers.shape[1])

    def column(self, name: str, dtype: str, shape: list[int]) -> Column:
        """Also one that no feature of the block has."""
        nothing = Column(dtype, shape, np.zeros(len(self), np.int64), np.zeros(len(self), bool), np.zeros(0, np.uint8))
        return self.columns.get(name, nothing)

    def part(self, start: int, stop: int) -> Block:
        """Features start .. stop - 1."""
        columns = {}
        for name, (dtype, shape, sizes, is_there, values) in self.columns.items():
            if is_there[start:stop].any():
                first, last = int(sizes[:start].sum()), int(sizes[:stop].sum())
                columns[name] = Column(dtype, shape, sizes[start:stop], is_there[start:stop], values[first:last])
        return Block(self.numbers[:, start:stop], columns)

    def to_bytes(self) -> bytes:
        columns = {name: [dtype, shape, *(array.tobytes() for array in arrays)] for name, (dtype, shape, *arrays) in self.columns.items()}
        packed = pack([self.numbers.tobytes(), columns])
        assert packed is not None
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> Block:
        numbers, columns = unpack(data)
        kinds = (np.int64, bool, np.uint8)
        arrays = {name: map(np.frombuffer, buffers, kinds) for name, (_, _, *buffers) in columns.items()}
        return cls(np.frombuffer(numbers, np.int32).reshape(4, -1), {name: Column(*columns[name][:2], *arrays[name]) for name in columns})


def block_of(features: Sequence[tuple[int, Features]]) -> Block:
    """Of features, each with the number of its record."""
    kinds: dict[str, tuple[str, list[int]]] = {}
    seen: set[tuple[tuple[str, ...], ...]] = set()  # which arrays a feature may have
    for _, feature in features:
        kind = tuple(tuple(getattr(feature, part)) for part in PARTS)
        if kind not in seen:
            seen.add(kind)
            kinds |= {name: column for name, column in _kinds(feature).items() if name not in kinds}
    numbers = [(record, feature.group, len(feature.tokens["input_ids"]), feature.num_cut) for record, feature in features]
    columns = {}
    for name, (dtype, shape) in kinds.items():
        part, key = name.split(".", 1)
        found = [getattr(feature, part).get(key) for _, feature in features]
        pieces = [np.zeros(0, np.uint8) if array is None else np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in found]
        sizes = np.asarray([len(piece) for piece in pieces], np.int64)
        columns[name] = Column(dtype, shape, sizes, np.asarray([array is not None for array in found], bool), np.concatenate(pieces))
    return Block(np.asarray(numbers, np.int32).reshape(-1, 4).T, columns)


def joined(blocks: Iterable[Block]) -> Block:
    """One after the other."""
    blocks = list(blocks)
    kinds: dict[str, tuple[str, list[int]]] = {}
    for block in blocks:
        kinds |= {name: column[:2] for name, column in block.columns.items() if name not in kinds}
    columns = {}
    for name, kind in kinds.items():
        parts = [block.column(name, *kind) for block in blocks]
        arrays = (np.concatenate([getattr(part, field) for part in parts]) for field in ("sizes", "is_there", "values"))
        columns[name] = Column(*kind, *arrays)
    return Block(np.concatenate([np.zeros((4, 0), np.int32), *(block.numbers for block in blocks)], axis=1), columns)


def _kinds(feature: Features) -> dict[str, tuple[str, list[int]]]:
    """Column name -> (dtype, shape with -1 for the length that varies)."""
    columns: dict[str, tuple[str, list[int]]] = {}
    for part in PARTS:
        arrays: Mapping[str, np.ndarray] = getattr(feature, part)
        for key, array in arrays.items():
            shape = list(array.shape) if part == "example" else [-1, *array.shape[1:]]
            columns[f"{part}.{key}"] = (array.dtype.str, shape)
    return columns
