"""A batch on Ray: ``pip install aichatfree ray && python examples/ray_batch.py``.

Ray's object references have ``future()``, so an Executor needs three lines only. The workers read
AICHATFREE_SECRET and AICHATFREE_PASSWORD from their environment.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import ray

import aichatfree


class RayExecutor(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return ray.remote(fn).remote(*args, **kwargs).future()


if __name__ == "__main__":
    ray.init(log_to_driver=False)
    client = aichatfree.Client()
    prompts = [f"Name a river that begins with {letter}." for letter in "ABCDEFGHIJ"]
    batch = client.batch(prompts, executor=RayExecutor(), shard_size=5, output="rivers.jsonl")
    for result in batch:
        print(result.custom_id, result.text if result.ok else result.error)
    print(batch.summary)
    ray.shutdown()
