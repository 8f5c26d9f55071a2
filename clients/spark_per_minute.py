"""Counts the shop's events by minute and service with Spark Structured Streaming.

Argument: {"file": NDJSON, "format": "json" | "parquet"}. Parquet is written from the NDJSON first, untimed.
Prints {"seconds": …, "events": {service: count}}. The seconds are those of the streaming query, without the start
of the JVM, the better of two runs: Spark compiles in the first one.
"""

import json
import os
import sys
import tempfile
import time

from pyspark.sql import SparkSession, functions as f

request = json.loads(sys.argv[1])
scratch = tempfile.TemporaryDirectory(prefix="spark-")
cores = os.cpu_count()
spark = (
    SparkSession.builder.master(f"local[{cores}]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.memory", "3g")
    .config("spark.sql.shuffle.partitions", cores)
    .config("spark.sql.streaming.stateStore.providerClass",
            "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider")
    .config("spark.sql.warehouse.dir", scratch.name + "/warehouse")
    .config("spark.driver.extraJavaOptions", "-Djava.net.preferIPv4Stack=true")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")

# Both versions of the envelope.
SCHEMA = """timestamp TIMESTAMP, service STRING, level STRING, duration_ms DOUBLE,
    requiredFields STRUCT<timestamp: TIMESTAMP, service: STRING, level: STRING>,
    optionalFields STRUCT<duration_ms: DOUBLE>"""


def flat(rows):
    return rows.select(
        *[f.coalesce(f.col(name), f.col("requiredFields." + name)).alias(name) for name in ("timestamp", "service", "level")],
        f.coalesce("duration_ms", "optionalFields.duration_ms").alias("duration_ms"),
    )


def source():
    if request["format"] == "parquet":
        parquet = scratch.name + "/parquet"
        if not os.path.exists(parquet):
            flat(spark.read.schema(SCHEMA).json(request["file"])).write.parquet(parquet)
        return spark.readStream.schema("timestamp TIMESTAMP, service STRING, level STRING, duration_ms DOUBLE").parquet(parquet)
    directory = scratch.name + "/json"
    if not os.path.exists(directory):
        os.mkdir(directory)
        os.symlink(os.path.abspath(request["file"]), directory + "/events.ndjson")
    return flat(spark.readStream.schema(SCHEMA).json(directory))


def run(number):
    per_minute = (
        source()
        .groupBy(f.window("timestamp", "1 minute"), "service")
        .agg(
            f.count("*").alias("events"),
            f.count(f.when(f.col("level") == "ERROR", 1)).alias("errors"),
            f.avg("duration_ms").alias("mean_ms"),
            f.max("duration_ms").alias("max_ms"),
        )
    )
    name = f"per_minute_{number}"
    began = time.monotonic()
    query = (
        per_minute.writeStream.format("memory").queryName(name).outputMode("complete")
        .option("checkpointLocation", f"{scratch.name}/checkpoint-{number}")
        .trigger(availableNow=True).start()
    )
    query.awaitTermination()
    seconds = time.monotonic() - began
    rows = spark.sql(f"SELECT service, sum(events) FROM {name} GROUP BY service").collect()
    return seconds, dict(tuple(row) for row in rows)


runs = [run(number) for number in range(2)]
print(json.dumps({"seconds": min(seconds for seconds, _ in runs), "events": runs[0][1]}))
spark.stop()
