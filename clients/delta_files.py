"""Prints the live files of a Delta table and their rows as JSON: delta_files.py TABLE_DIRECTORY"""

import json
import sys

import pyarrow as pa
from deltalake import DeltaTable

table = DeltaTable(sys.argv[1])
actions = pa.table(table.get_add_actions(flatten=True))
rows = sum(count.as_py() for count in actions.column("num_records"))
files = sorted(uri.removeprefix("file://") for uri in table.file_uris())
print(json.dumps({"files": files, "rows": rows}))
