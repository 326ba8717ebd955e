"""Parquet files."""

from __future__ import annotations

from flaxft.data.content import Content, Placed
from flaxft.data.headers import unique
from flaxft.errors import UserError, reason


def read_parquet(file: Content) -> Placed:
    """A row a record, as Python objects. Raises UserError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(pa.py_buffer(file.data)))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.path}: not a whole Parquet file ({reason(error)}); write or download it again") from None
    unique(table.column_names, file.path)
    rows = (row for batch in table.to_batches(max_chunksize=1024) for row in batch.to_pylist())  # each of them as Python objects for a moment alone
    yield from enumerate(rows)


def is_parquet(file: Content) -> bool:
    return file.data[:4] == b"PAR1"
