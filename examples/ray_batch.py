"""A batch on Ray: ``pip install ".[ray]" && python examples/ray_batch.py``, in a checkout.

Set AICHATFREE_BASE_URL first. The workers read AICHATFREE_SECRET and AICHATFREE_PASSWORD from
their environment.
"""

import ray

import aichatfree
from aichatfree.batch import RayExecutor

if __name__ == "__main__":
    ray.init(log_to_driver=False)  # or ray.init("auto"), on a machine of a cluster
    prompts = [f"Name a river that begins with {letter}." for letter in "ABCDEFGHIJ"]
    with aichatfree.Client() as client, RayExecutor() as executor:
        batch = client.batch(prompts, executor=executor, shard_size=5, output="rivers.jsonl")
        for result in batch:
            print(result.custom_id, result.text if result.ok else result.error)
        print(batch.summary)
