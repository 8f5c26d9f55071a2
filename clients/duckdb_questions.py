"""Times queries in DuckDB over Parquet files; one JSON argument: files, queries, repeats."""

import json
import statistics
import sys
import time

import duckdb

request = json.loads(sys.argv[1])
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
files = ", ".join("'" + file.replace("'", "''") + "'" for file in request["files"])
connection.execute(f"CREATE VIEW logs AS SELECT * FROM read_parquet([{files}], hive_partitioning = true)")
answers = []
for query in request["queries"]:
    connection.execute(query).fetchall()
    times = []
    for _ in range(request["repeats"]):
        start = time.perf_counter()
        rows = connection.execute(query).fetchall()
        times.append((time.perf_counter() - start) * 1e3)
    answers.append({"ms": statistics.median(times), "rows": len(rows)})
print(json.dumps(answers))
