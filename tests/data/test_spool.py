"""Values that were packed come back as they were, from memory and from a file."""

from __future__ import annotations

import datetime
import decimal
import math
import struct
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft.data import spool
from flaxft.data.source import open_source
from flaxft.data.spool import Packed, Spool
from flaxft.errors import DiskError

INEXACT = st.one_of(
    st.integers(min_value=2**63), st.integers(max_value=-(2**63)), st.tuples(st.integers()), st.dates(), st.datetimes(), st.decimals(allow_nan=False),
    st.just(np.float64(0.5)), st.just(np.int32(3)), st.just("half a pair \ud800"), st.just(OrderedDict(a=1)), st.just({1: (2,)}),
)  # fmt: skip
SCALARS = st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.none(), st.booleans(), st.binary())
VALUES = st.recursive(SCALARS | INEXACT, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner), max_leaves=12)


def exact(value):
    """What two values are equal in when they are equal in types, in the order of keys and in the bits of floats."""
    if isinstance(value, float):
        return type(value), struct.pack("<d", value)
    if isinstance(value, dict):
        return type(value), [(exact(key), exact(one)) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [exact(one) for one in value]
    return type(value), value


@settings(max_examples=150, deadline=None)
@given(values=st.lists(VALUES, max_size=6), limit=st.sampled_from([0, 20, 1 << 20]))
def test_values_come_back_exactly(values, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "IN_MEMORY", limit)
        packed = Packed(values)
        assert exact(list(packed)) == exact(values)
        assert exact([packed[i] for i in reversed(range(len(packed)))]) == exact(values[::-1])
    assert len(packed) == len(values)


@pytest.mark.parametrize(
    "value", [math.nan, -0.0, 2**63, 10**40, [[]], {}, "", b"", {"a": datetime.date(2020, 1, 1)}, decimal.Decimal("1.10"), (1, 2), {(1,): 2}], ids=repr
)
def test_one_value(value):
    assert exact(Packed([value])[0]) == exact(value)


def test_nested_deep():
    value: list = []
    for _ in range(900):
        value = [value]
    found, depth = Packed([value])[0], 0
    while found:
        (found,), depth = found, depth + 1
    assert depth == 900


def test_as_a_sequence():
    packed = Packed(["a", ("b",), "c"])
    assert (packed[-1], packed[1:], packed[np.int64(1)]) == ("c", [("b",), "c"], ("b",))
    assert list(reversed(packed)) == ["c", ("b",), "a"]
    for index in (3, -4):
        with pytest.raises(IndexError):
            packed[index]
    assert list(Packed()) == []


def test_the_file_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(spool, "IN_MEMORY", 100)
    packed = Packed({"text": "x" * 50, "number": i} for i in range(100))
    assert packed[99] == {"text": "x" * 50, "number": 99}
    assert list(tmp_path.iterdir()) == []


def test_threads_read_at_once(monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 100)
    packed, wrong = Packed(range(3000)), []

    def read(order):
        wrong.extend(i for i in order if packed[i] != i)

    threads = [threading.Thread(target=read, args=(np.random.default_rng(seed).permutation(3000).tolist(),)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def full(**arguments):
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 10)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    line = rf"^{tmp_path}: data cannot be kept there \(.*No space left on device\); free space, or name another folder in TMPDIR$"
    with pytest.raises(DiskError, match=line):
        Packed(["a" * 20])
    one = Spool()
    with pytest.raises(DiskError, match=line):
        one.write(b"a" * 20)
    file = Path(tmp_path, "a.jsonl")
    file.write_text('{"text": "anna"}\n' * 10)
    with pytest.raises(DiskError, match=line):
        open_source(str(file), split="train")
