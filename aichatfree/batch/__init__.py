"""Thousands of prompts: in threads or on an executor, with a journal that loses nothing."""

from ._batch import Batch, Summary
from ._records import BatchResult
from ._shards import read_results, run_shard
from ._start import make_shards

__all__ = ["Batch", "BatchResult", "Summary", "make_shards", "read_results", "run_shard"]
