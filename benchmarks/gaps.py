"""How faithfully the gaps between chunks reach the caller: ``python -m benchmarks.gaps``.

A site in another process writes a chunk each 50 ms; printed is by how much the gaps that the caller
sees differ from that, in milliseconds, for the three ways that a body can be sent.
"""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from multiprocessing.connection import Connection

from aichatfree import Client
from aichatfree.testing import Answer, FakeSite
from benchmarks.elsewhere import elsewhere

GAP = 0.05
CHUNKS = 100


def serve(channel: Connection) -> None:
    answers = [
        Answer(*["chunk"] * CHUNKS, gap=GAP, framing=framing)  # type: ignore[arg-type]
        for framing in ("chunked", "length", "close")
    ]
    with FakeSite(answers) as site:
        channel.send(site.url)
        channel.recv()


def main() -> None:
    print(f"{'body':<10}{'chunks':>7}{'median':>9}{'p99':>9}{'worst':>9}   (ms off)")
    with elsewhere(serve) as url, Client(url) as client:
        for framing in ("chunked", "length", "close"):
            times = [time.perf_counter() for _ in client.stream("Hi")]
            off = sorted(abs(later - earlier - GAP) * 1000 for earlier, later in pairwise(times))
            p99 = off[int(len(off) * 0.99) - 1]
            median = statistics.median(off)
            print(f"{framing:<10}{len(times):>7}{median:>9.2f}{p99:>9.2f}{off[-1]:>9.2f}")


if __name__ == "__main__":
    main()
