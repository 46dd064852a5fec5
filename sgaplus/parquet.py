"""Parquet files that are written whole or not at all, and checked when they are read.

Parquet does not notice a flipped bit in a number, so a file's footer holds a hash of the table's content.
"""

import hashlib
import io as memory
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from . import io
from .errors import SystemFault, first_line

_HASH = b"sgaplus.sha256"
# What Arrow raises for bytes that are no Parquet file; they are in memory, so the system has no part in it.
_UNDECODABLE = (pa.ArrowException, OSError, ValueError)


def write(path: Path, frame: pd.DataFrame) -> None:
    """Write a table, whole or not at all; errors are those of `io.atomic`."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    buffer = memory.BytesIO()
    pq.write_table(table.replace_schema_metadata({_HASH: _content(table)}), buffer, compression="zstd")
    io.write(path, buffer.getbuffer())


def read(path: Path) -> pd.DataFrame:
    """A table; one that another program wrote has no hash to be compared with.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it may not be read.
        SystemFault: the disk fails, or the file's content is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise io.unreadable(path, error) from error
    try:
        table = pq.read_table(pa.BufferReader(data))
        expected = (table.schema.metadata or {}).get(_HASH)
        if expected not in (None, _content(table)):
            raise pa.ArrowInvalid("its content is not what was written")
        return table.to_pandas(ignore_metadata=True)
    except MemoryError:  # Arrow's is one of its exceptions too
        raise
    except _UNDECODABLE as error:
        raise SystemFault(
            f"{path} is damaged, or no Parquet file ({first_line(error)}): restore it from a copy or with"
            f" git, or rename it to {path.name}.damaged, and its rows are computed again"
        ) from error


def _content(table: pa.Table) -> bytes:
    """SHA-256 of a table's column names, types and values, as hexadecimal digits."""
    digest = hashlib.sha256()
    for field, column in zip(table.schema, table.columns, strict=True):
        digest.update(f"{field.name}\0{field.type}\0{len(column)}\0".encode())
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # of no rows
            continue
        digest.update(column.is_valid().to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_large_string(field.type) or pa.types.is_string(field.type):
            encoded = column.dictionary_encode()  # of texts there are few different ones
            digest.update(repr(encoded.dictionary.to_pylist()).encode())
            column = encoded.indices
        if pa.types.is_primitive(column.type):
            digest.update(column.to_numpy(zero_copy_only=False).tobytes())
        else:
            digest.update(repr(column.to_pylist()).encode())
    return digest.hexdigest().encode()
