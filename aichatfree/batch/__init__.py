"""Thousands of prompts, in threads or on an executor, with a journal that loses no answer."""

from ._batch import Batch
from ._prompts import PromptSource
from ._ray import RayExecutor
from ._report import Report
from ._results import BatchResult
from ._summary import Summary
from ._worker import run_shard
from ._worker_messages import make_shards, read_results

__all__ = [
    "Batch",
    "BatchResult",
    "PromptSource",
    "RayExecutor",
    "Report",
    "Summary",
    "make_shards",
    "read_results",
    "run_shard",
]
