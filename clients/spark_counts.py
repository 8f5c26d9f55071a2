"""Counts events by minute and service with Spark Structured Streaming over a Kafka topic.

spark_counts.py BROKERS TOPIC JARS SCRATCH    prints minute, service and count as CSV, in order
"""

import glob
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, from_json, window

brokers, topic, jars, scratch = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.jars", ",".join(glob.glob(jars + "/*.jar")))
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.memory", "600m")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
messages = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", brokers)
    .option("subscribe", topic)
    .option("startingOffsets", "earliest")
    .load()
)
event = from_json(col("value").cast("string"), "timestamp TIMESTAMP, service STRING")
counts = (
    messages.where(col("value").isNotNull())
    .select(event.alias("event"))
    .groupBy(window(col("event.timestamp"), "1 minute"), col("event.service"))
    .count()
)
query = (
    counts.writeStream.outputMode("complete")
    .format("memory")
    .queryName("counts")
    .option("checkpointLocation", scratch)
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
rows = spark.sql("SELECT window.start, service, count FROM counts ORDER BY 1, 2").collect()
for start, service, count in rows:
    print(f"{start:%Y-%m-%dT%H:%M:%S},{service},{count}")
