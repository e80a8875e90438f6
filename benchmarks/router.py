"""Do the limits of two sites add up? ``python -m benchmarks.router [--quick]``

400 prompts (``--quick``: 100) through a router over two sites on real sockets, each in a process of
its own, which accept 5 and 10 requests a second and take 100 ms for an answer. The time is divided
by the least that the sites allow. Once the limits are configured, once they have to be learned.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack

from aichatfree import Client, Router
from benchmarks.pacing.live import SERVICE, running
from benchmarks.pacing.servers import GCRA, FixedWindow, TokenBucket
from benchmarks.pacing.simulation import Limit

RATES = (5, 10)  # requests/s
THREADS = 32
TARGET = 1.15

KINDS: dict[str, list[Limit]] = {
    "token buckets, burst 1 s": [TokenBucket(rate, 1) for rate in RATES],
    "GCRA, burst 1 s": [GCRA(rate, 1) for rate in RATES],
    "windows of a second": [FixedWindow(rate, 1) for rate in RATES],
}


def least_seconds(limits: list[Limit], prompts: int) -> float:
    """The time after which the sites have accepted so many requests at best, and answered them."""
    seconds = 0.0
    while sum(limit.allowed(seconds) for limit in limits) < prompts:
        seconds += 0.01
    return seconds + SERVICE


def measure(limits: list[Limit], prompts: int, *, configured: bool) -> float:
    """The time that a batch takes, over the least possible."""
    least = least_seconds(limits, prompts)
    with ExitStack() as stack:
        urls = [stack.enter_context(running(limit, 0.0))[0] for limit in limits]
        clients = [
            Client(url, max_requests_per_minute=rate * 60 if configured else None)
            for url, rate in zip(urls, RATES, strict=True)
        ]
        router = stack.enter_context(Router(clients))
        began = time.perf_counter()
        questions = (f"Name river number {number}." for number in range(prompts))
        summary = router.batch(questions, max_workers=THREADS, ordered=False, progress=False).run()
        took = time.perf_counter() - began
    assert summary.answered == prompts, summary
    return took / least


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.router", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 prompts instead of 400")
    prompts = 100 if parser.parse_args().quick else 400
    print(f"{prompts} prompts; target: at most {TARGET} times the least that the sites allow")
    for kind, limits in KINDS.items():
        for configured in (True, False):
            how = "configured" if configured else "learned"
            ratio = measure(limits, prompts, configured=configured)
            print(f"{kind:<26} {how:<11} {ratio:5.2f}", flush=True)


if __name__ == "__main__":
    main()
