"""Counts the rows of a Delta table as other engines do: read_delta.py TABLE_DIRECTORY"""

import sys

import duckdb
from deltalake import DeltaTable

table = DeltaTable(sys.argv[1])
rows = table.to_pyarrow_dataset().count_rows() if hasattr(table, "to_pyarrow_dataset") else None
files = [uri.removeprefix("file://") for uri in table.file_uris()]
query = duckdb.sql("SELECT count(*), count(DISTINCT event_id) FROM read_parquet(?, hive_partitioning = true)", params=[files])
[(duck_rows, distinct)] = query.fetchall()
print(rows, duck_rows, distinct)
