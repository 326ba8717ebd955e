"""Compressed files: gzip, bzip2, xz and Zstandard, known by their first bytes and unpacked in blocks, with a bound."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mmap
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from flaxft.data.spool import Spool
from flaxft.errors import UserError, reason

BLOCK = 1 << 20  # bytes that are unpacked together
# A bomb is refused as soon as it shows: text is packed 3:1 to 20:1, and the densest table that we met 90:1.
RATIO, FLOOR = 250, 1 << 26  # bytes unpacked to one packed, beyond so many bytes
LIMIT = 1 << 35  # bytes unpacked, whatever the ratio: 32 GiB


class Compression(NamedTuple):
    name: str
    suffix: str  # what stands behind the suffix of the format
    magic: bytes
    open: Callable[[Any], Any]


def _open_zstd(stream: DataStream) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")


COMPRESSIONS = (
    Compression("gzip", ".gz", b"\x1f\x8b", lambda stream: gzip.GzipFile(fileobj=stream)),
    Compression("bzip2", ".bz2", b"BZh", bz2.BZ2File),
    Compression("xz", ".xz", b"\xfd7zXZ\0", lzma.LZMAFile),
    Compression("Zstandard", ".zst", b"\x28\xb5\x2f\xfd", _open_zstd),
)


def without_suffix(path: str) -> str:
    """The name without the suffix of its compression: `a.csv` of `a.csv.gz`."""
    lower = path.lower()
    found = next((kind.suffix for kind in COMPRESSIONS if lower.endswith(kind.suffix)), "")
    return path[: len(path) - len(found)]


def unpack(data: bytes | mmap.mmap, path: str) -> bytes | mmap.mmap:
    """The content without compression, whose first bytes begin neither UTF-8 text (but bzip2's) nor any other format. Raises UserError."""
    if not data:
        raise UserError(f"{path}: the file is empty (0 bytes); write or download it again")
    kind = next((kind for kind in COMPRESSIONS if data[: len(kind.magic)] == kind.magic and _is_binary(data)), None)
    if kind is None:
        said = next((kind for kind in COMPRESSIONS if path.lower().endswith(kind.suffix)), None)
        if said is not None:
            end = said.suffix
            raise UserError(f"{path}: ends in {end} but holds no {said.name} data; download it again, or drop {end} from its name if it is plain text")
        return data
    spool, size = Spool(), 0
    try:
        with kind.open(DataStream(data)) as stream:
            while block := stream.read(BLOCK):
                size += len(block)
                if size > LIMIT or size > max(FLOOR, RATIO * len(data)):
                    share = f"{len(data):,} bytes of {kind.name} become more than {size // 2**20:,} MiB"
                    raise UserError(f"{path}: {share}, which no table does; download it again, or unpack it yourself if it is what you expect")
                spool.write(block)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path}: the {kind.name} data is cut off or corrupt ({reason(error)}); download it again") from None
    if not size:
        raise UserError(f"{path}: the file is empty (0 bytes after {kind.name}); write or download it again")
    return spool.content()


def _is_binary(data: bytes | mmap.mmap) -> bool:
    """BZh alone may begin a text, but the size of its blocks and a magic number of six bytes follow it."""
    return data[:3] != b"BZh" or data[4:10] in (b"1AY&SY", b"\x17rE8P\x90")


class DataStream(io.RawIOBase):
    """Data as a stream that is read once from its beginning."""

    def __init__(self, data: bytes | mmap.mmap):
        self._data, self._position = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, len(self._data))[whence])
        return self._position

    def readinto(self, buffer: Any) -> int:
        block = self._data[self._position : self._position + len(buffer)]
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)
