"""The results table of a run folder that may come from elsewhere, read without trusting it."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rcm.analysis.statistics import COLUMNS
from rcm.foreign import reasons, require_expansion, require_file
from rcm.words import require_name

NUMBERS = ("ratio", "seed", "severity", "value")
TIMES = 1000  # as many times its size may a table unpack to, whose columns repeat themselves


def read_table(path: Path) -> pd.DataFrame:
    """The table of a `results.parquet`. Raises ValueError, without a subject, for a damaged one and
    for columns that hold neither plain numbers nor names."""
    require_file(path)
    with reasons():
        with pq.ParquetFile(path) as file:
            schema, about = file.schema_arrow, file.metadata
        _require_plain(schema)
        parts = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        claimed = max(parts, 8 * about.num_rows * about.num_columns)
        require_expansion(claimed, path.stat().st_size, TIMES)
        words = [field.name for field in schema if _is_text(field.type)]
        with pq.ParquetFile(
            path,
            read_dictionary=words,  # long texts are there once
            page_checksum_verification=True,
        ) as file:
            table = file.read()
        for name in set(COLUMNS[:-1]) & set(table.column_names):
            if table[name].null_count:
                raise ValueError(f"its column {name!r} has gaps")
        for place, field in enumerate(schema):
            if field.name in words:
                column = table[field.name]
                for word in column.unique().to_pylist():
                    require_name(word or "", f"in the column {field.name} the name")
                table = table.set_column(place, field, column.cast(field.type))
        return table.to_pandas()


def _require_plain(schema: pa.Schema) -> None:
    if len(set(schema.names)) < len(schema.names):
        raise ValueError("it has two columns of one name")
    for field in schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        right = number or (field.name not in NUMBERS and _is_text(field.type))
        if not right:
            raise ValueError(f"its column {field.name!r} holds {field.type}")


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
