"""Thousands of prompts: in threads or on an executor, with a journal that loses nothing."""

from .records import BatchResult
from .runner import Batch, Summary
from .shards import read_results, run_shard
from .start import make_shards

__all__ = ["Batch", "BatchResult", "Summary", "make_shards", "read_results", "run_shard"]
