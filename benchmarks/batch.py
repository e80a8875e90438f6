"""What a batch costs and how fast it goes: ``python -m benchmarks.batch [NAME ...]``.

overhead   microseconds and memory for each item, with a stub in place of the site
resume     seconds until a run on an output of a million answers begins
threads    answers a second of 64 and 256 threads on a site that takes 200 ms, over the most
pacer      200 prompts, 32 threads, 200 ms each: with the pacer over without
dask       answers a second of two worker processes over one process, where the CPU is the limit

Each measurement is a process of its own. ``dask`` needs ``pip install ".[dask]"``.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aichatfree import Client
from aichatfree.stream import Reply
from benchmarks.raw_site import raw_site

MILLION = 1_000_000


def stub_client() -> Client:
    client = Client("http://127.0.0.1:1")
    reply = Reply("a short answer", 1, 0.1, 0.1)
    client._requester.answer = lambda *_: reply  # type: ignore[method-assign]
    return client


def overhead(items: int, ordered: bool) -> None:
    client = stub_client()
    client.batch(["warm-up"] * 100).run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    prompts = (f"question {n}" for n in range(items))
    client.batch(prompts, max_workers=16, ordered=ordered, progress=False).run()
    took = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    order = "in order" if ordered else "as completed"
    print(f"{items:>9,} items {order:<13} {took / items * 1e6:6.1f} us each  {grown:+7.1f} MB")


def resume() -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "answers.jsonl"
        client = stub_client()
        client.batch(["question 0"], output=output).run()
        row = json.loads(output.read_text())
        with output.open("w") as file:
            for n in range(MILLION):
                file.write(json.dumps({**row, "custom_id": str(n)}, separators=(",", ":")) + "\n")
        began = time.perf_counter()
        batch = client.batch(("question 0" for _ in range(MILLION)), output=output, progress=False)
        next(batch)
        took = time.perf_counter() - began
        batch.close()
        print(f"{MILLION:,} answers in the output: the first result after {took:.2f} s")


def threads(workers: int) -> None:
    with raw_site(delay=0.2) as url, Client(url) as client:
        client.batch(["warm-up"] * workers, max_workers=workers).run()
        best = workers / 0.2
        prompts = ["question"] * (workers * 40)
        summary = client.batch(prompts, max_workers=workers, progress=False).run()
        print(
            f"{workers:>4} threads: {summary.rate:7.1f} answers/s, {summary.rate / best:.1%} of "
            f"{best:.0f}"
        )


def pacer() -> None:
    ratios = []
    with raw_site(delay=0.2) as url:
        for _ in range(5):
            times = []
            for paced in (True, False):
                with Client(url) as client:
                    if not paced:
                        client._requester.rate_limiter.acquire = lambda call: 0  # type: ignore[method-assign]
                    began = time.perf_counter()
                    client.batch(["question"] * 200, max_workers=32, progress=False).run()
                    times.append(time.perf_counter() - began)
            ratios.append(times[0] / times[1])
    print(
        f"with the pacer over without: {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )


def dask() -> None:
    from distributed import Client as DaskClient
    from distributed import LocalCluster

    prompts = ["question"] * 6000
    with (
        raw_site() as url,
        Client(url) as client,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        DaskClient(cluster) as engine,
    ):
        executor = engine.get_executor(pure=False)
        ratios = []
        for _ in range(3):
            rates = [
                client.batch(prompts, executor=used, progress=False, max_workers=8).run().rate
                for used in (executor, None)
            ]
            ratios.append(rates[0] / rates[1])
            print(f"two dask workers {rates[0]:.0f}/s, one process {rates[1]:.0f}/s")
        print(f"two over one: {statistics.median(ratios):.2f}")


RUNS: dict[str, list[tuple[Callable[..., None], tuple[Any, ...]]]] = {
    "overhead": [
        *((overhead, (items, True)) for items in (10_000, 100_000, MILLION)),
        (overhead, (MILLION, False)),
    ],
    "resume": [(resume, ())],
    "threads": [(threads, (64,)), (threads, (256,))],
    "pacer": [(pacer, ())],
    "dask": [(dask, ())],
}


def main() -> None:
    names = sys.argv[1:] or list(RUNS)
    unknown = set(names) - set(RUNS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(RUNS)}")
    spawn = multiprocessing.get_context("spawn")
    for name in names:
        print(f"--- {name}", flush=True)
        for measure, arguments in RUNS[name]:
            process = spawn.Process(target=measure, args=arguments)
            process.start()
            process.join()


if __name__ == "__main__":
    main()
