"""A batch on Spark, which needs Java 17 or later; in a checkout:

``pip install ".[spark]" && python examples/spark_batch.py``

Set AICHATFREE_BASE_URL first. Spark has no Executor, so the shards of the batch are the
rows of an RDD. The workers read AICHATFREE_SECRET and AICHATFREE_PASSWORD from their environment.
"""

import os
import sys
from collections.abc import Iterable, Iterator

from pyspark.sql import SparkSession

import aichatfree
from aichatfree.batch import make_shards, read_results, run_shard


def answer(shards: Iterable[bytes]) -> Iterator[bytes]:
    return (run_shard(bytes(shard)) for shard in shards)


if __name__ == "__main__":
    client = aichatfree.Client()
    prompts = [f"Name a river that begins with {letter}." for letter in "ABCDEFGHIJ"]
    shards = list(make_shards(client, prompts, shard_size=5, parallel=2))

    # Spark's workers would otherwise be the first `python3` of PATH, perhaps without this package.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master("local[2]").getOrCreate()
    rows = spark.sparkContext.parallelize(shards, numSlices=2).mapPartitions(answer)
    for part in rows.toLocalIterator():
        for result in read_results(part):
            print(result.custom_id, result.text if result.ok else result.error)
    spark.stop()
