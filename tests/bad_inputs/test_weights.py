"""Files of weights that are damaged or something else. Numbers 81 to 104 of the corpus."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.bad_inputs.corpus import Case

FILE = "model.safetensors"
ENTRY = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
OTHER = b'"b":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'
DAMAGED, UNREADABLE, CUT_OFF = ("damaged or cut off", "fetch it again"), ("header cannot be read", "fetch it again"), ("cut off", "fetch it again")


def with_header(header: bytes, data: bytes = b"") -> bytes:
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def entries(*parts: bytes) -> bytes:
    return b"{" + b",".join(parts) + b"}"


def content(data: bytes) -> Callable[[Path], object]:
    return lambda model: (model / FILE).write_bytes(data)


def edited(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda model: (model / FILE).write_bytes(change((model / FILE).read_bytes()))


def tensors(change: Callable[[dict[str, np.ndarray]], Mapping[str, Any]]) -> Callable[[Path], object]:
    return lambda model: save_file(dict(change(load_file(model / FILE))), model / FILE)


def long_header(size: int, *, held: int) -> bytes:
    """A file that says its header has `size` bytes and holds `held` of them."""
    return struct.pack("<Q", size) + b"{" + b" " * (held - 1)


def all_nan(found: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    return found | {"embeddings.LayerNorm.weight": np.full_like(found["embeddings.LayerNorm.weight"], np.nan)}


def case(number: int, name: str, make: Callable[[Path], object], *words: str, **fields: Any) -> Case:
    return Case(number, name, [], ["model.safetensors", *words], make=make, **fields)


CASES = [
    case(81, "0 bytes", content(b""), "0 bytes", "fetch it again"),
    case(82, "7 bytes", content(b"\x08\0\0\0\0\0\0"), "7 bytes", "fetch it again"),
    case(83, "cut in the header", edited(lambda data: data[:100]), *CUT_OFF),
    case(84, "cut in the body", edited(lambda data: data[:-100]), *DAMAGED, is_real=True),
    case(85, "bytes behind the body", edited(lambda data: data + b"\0" * 8), *DAMAGED),
    case(86, "a header of 2^63 bytes", content(long_header(1 << 63, held=2)), "header of 9223372036854775808", "fetch it again"),
    case(87, "a header of 100 MB and a byte", content(long_header(100 * 10**6 + 1, held=1000)), "header of 100000001", "fetch it again"),
    case(88, "a header of 99 MB in a short file", content(long_header(99 * 10**6, held=1000)), "header of 99000000", "fetch it again"),
    case(88, "a whole header of 11 MB", content(long_header(11 << 20, held=11 << 20)), "header of 11534336", "fetch it again"),
    case(89, "a header that is no JSON", content(with_header(b"not JSON")), *UNREADABLE),
    case(90, "a header that is a list", content(with_header(b"[1]")), *DAMAGED),
    case(91, "a header that is no UTF-8", content(with_header(b'{"\xff":1}')), *UNREADABLE),
    case(92, "two tensors that overlap", content(with_header(entries(ENTRY, OTHER % (2, 6)), b"\0" * 6)), *DAMAGED),
    case(93, "a gap between two tensors", content(with_header(entries(ENTRY, OTHER % (8, 12)), b"\0" * 12)), *DAMAGED),
    case(94, "a shape that needs other bytes", content(with_header(entries(ENTRY.replace(b"[1]", b"[2]")), b"\0" * 4)), *DAMAGED),
    case(95, "a shape that overflows", content(with_header(entries(ENTRY.replace(b"[1]", b"[4611686018427387904,8]")), b"\0" * 4)), *DAMAGED),
    case(96, "a negative dim", content(with_header(entries(ENTRY.replace(b"[1]", b"[-1]")), b"\0" * 4)), *DAMAGED),
    case(97, "an unknown dtype", content(with_header(entries(ENTRY.replace(b"F32", b"Q7")), b"\0" * 4)), *DAMAGED),
    case(98, "a pickle", content(b"\x80\x02}q\x00(X\x0b\x00\x00\x00"), "a pickle", "put a real safetensors file there", is_real=True),
    case(99, "a zip", content(b"PK\x03\x04" + b"\0" * 60), "a zip or PyTorch archive", "put a real safetensors file there"),
    case(100, "a git-lfs pointer", content(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n"), "git-lfs pointer", "git lfs pull"),
    case(101, "an HTML page", content(b"<!DOCTYPE html>\n<html><body>Sign in</body></html>"), "an HTML page", "put a real safetensors file there"),
    case(102, "JSON of 100,000 levels", content(with_header(b"[" * 100_000 + b"]" * 100_000)), *UNREADABLE),
    case(102, "objects of 100,000 levels", content(with_header(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)), *UNREADABLE),
    case(103, "a name twice", content(with_header(entries(ENTRY, ENTRY), b"\0" * 4)), "duplicate key 'a'", "fetch it again"),
    Case(104, "a tensor of NaN", [], ["LayerNorm.weight", "holds NaN or infinity", "the file is damaged or the model diverged"], make=tensors(all_nan)),
    case(0, "a key of the header twice", content(with_header(entries(ENTRY.replace(b"[1]", b'[1],"shape":[1]')), b"\0" * 4)), "duplicate key 'shape'"),
    case(0, "a number of 5000 digits", content(with_header(entries(ENTRY.replace(b"[1]", b"[" + b"9" * 5000 + b"]")), b"\0" * 4)), *UNREADABLE),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(tried, case):
    tried(case)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x02}q", b"PK\x03\x04", b"<html></html>", b"version https://git-lfs.github.com/spec/v1\n", b"\x05", b"\xdd\xff\xff\xff\xff",
     b"\x81\xa1a" * 2000],
    ids=["empty", "pickle", "zip", "html", "git-lfs", "number", "4 billion entries", "2000 levels"],
)
def test_the_same_of_flax_model_msgpack(tried, data):
    def make(model: Path) -> None:
        (model / FILE).unlink()
        (model / "flax_model.msgpack").write_bytes(data)

    tried(Case(0, "msgpack", [], ["model"], make=make))


def test_shards_are_looked_at_too(tried):
    def make(model: Path) -> None:
        (model / FILE).rename(model / "model-00001-of-00001.safetensors")
        weight_map = dict.fromkeys(load_file(model / "model-00001-of-00001.safetensors"), "model-00001-of-00001.safetensors")
        (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        (model / "model-00001-of-00001.safetensors").write_bytes(b"\x80\x02}q")

    tried(Case(98, "a pickle as a shard", [], ["model-00001-of-00001.safetensors", "a pickle"], make=make))
