"""The workloads that clients are measured with, and the targets.

A workload has parts. Each client runs a workload in its own process; ``python -m benchmarks``
starts the processes and asks them for one measurement at a time.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

from benchmarks.clients import CLIENTS, PROMPT, Aiohttp, Asynchronous, Blocking
from benchmarks.live_site import CHUNKS, GAP, LATENCY, SECONDS
from benchmarks.wire import OPEN, WORD

SLOW = 0.2  # seconds that the slow site takes


@dataclass(frozen=True)
class Circumstances:
    """Where the sites are, and how much to measure."""

    site: str
    slow_site: str
    live_site: str
    quick: bool

    def times(self, count: int) -> int:
        return max(1, count // 4) if self.quick else count


@dataclass(frozen=True)
class Target:
    """What our figure over another client's should be."""

    ratio: float
    at_least: bool = False
    aim: float | None = None

    def is_met(self, ratio: float) -> bool:
        return ratio >= self.ratio if self.at_least else ratio <= self.ratio

    def __str__(self) -> str:
        aim = f", aim {self.aim:.2f}" if self.aim else ""
        return f"{'>=' if self.at_least else '<='} {self.ratio:.2f}{aim}"


@dataclass(frozen=True)
class Metric:
    """One figure of a work.

    Attributes:
        targets: for the ratio of our figure over that of the client named.
        beyond: the client whose figure of the same round is taken off before the ratio is made.
    """

    title: str
    targets: Mapping[str, Target] = field(default_factory=dict)
    beyond: str | None = None


Rounds: TypeAlias = Generator[dict[str, float], None, None]
"""First an empty value, once everything is set up; then the figures of each round, by metric."""


@dataclass(frozen=True)
class Work:
    """One workload and its metrics.

    Attributes:
        starts: how often the processes are started.
        rounds: measurements of each client after each start.
        takes_long: parts that a quick run leaves out.
    """

    title: str
    metrics: Mapping[str, Metric]
    measurements: Callable[[str, Circumstances, str], Rounds]
    starts: int
    rounds: int
    parts: tuple[str, ...] = ()
    takes_long: tuple[str, ...] = ()
    clients: tuple[str, ...] = tuple(CLIENTS)

    def parts_of(self, *, quick: bool) -> list[str]:
        parts = self.parts or tuple(self.metrics)
        return [part for part in parts if not (quick and part in self.takes_long)]


def run_workload(work: str, client: str, given: Circumstances, channel: Connection) -> None:
    """In the client's process: measure each part that is named, until an empty name comes."""
    os.setpgrp()  # so that everything it starts can be ended with it
    names = WORKS[work].parts_of(quick=given.quick)
    parts = {name: WORKS[work].measurements(client, given, name) for name in names}
    failed = {name: figures_or_failure(measurements) for name, measurements in parts.items()}
    with suppress(EOFError, OSError):
        while name := channel.recv():
            channel.send(failed[name] or figures_or_failure(parts[name]))
    for measurements in parts.values():
        measurements.close()


def figures_or_failure(measurements: Rounds) -> dict[str, float] | str:
    try:
        return next(measurements)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


# --- rounds ------------------------------------------------------------------------------------


def cpu_of(peer: Blocking | Asynchronous, width: int, each: int) -> float:
    """Microseconds for a request."""
    began = time.process_time()
    peer.run(peer.answer, width, each)  # type: ignore[arg-type]
    return (time.process_time() - began) / (width * each) * 1e6


def short_answers(client: str, given: Circumstances, chunks: str) -> Rounds:
    with closing(CLIENTS[client](f"{given.site}/{chunks}", int(chunks))) as peer:
        yield {}
        cpu_of(peer, 1, 50)  # caches fill
        while True:
            yield {chunks: cpu_of(peer, 1, 15 if chunks == "100" else 40)}


def long_answer(client: str, given: Circumstances, part: str) -> Rounds:
    chunks = given.times(100_000)
    with closing(CLIENTS[client](f"{given.site}/{chunks}", chunks)) as peer:
        yield {}
        with closing(CLIENTS[client](f"{given.site}/100", 100)) as other:
            cpu_of(other, 1, 10)  # caches fill
        while True:
            figures = []
            end = time.process_time() + (0.1 if given.quick else 0.6)
            while not figures or time.process_time() < end:
                figures.append(cpu_of(peer, 1, 1) / chunks)
            yield {part: statistics.median(figures)}


def time_to_first_chunk(client: str, given: Circumstances, part: str) -> Rounds:
    threads = int(part)
    site, takes, each = (given.site, 0.0, 100) if threads == 1 else (given.slow_site, SLOW, 2)
    with closing(CLIENTS[client](f"{site}/10", 10, threads)) as peer:
        yield {}
        cpu_of(peer, threads, max(1, 50 // threads))  # caches fill, connections open
        while True:
            # Threads that ask at different times: they wait for each other as little as can be.
            seconds = peer.run(peer.time_to_first_chunk, threads, each, SLOW / threads)  # type: ignore[arg-type]
            yield {part: (statistics.median(seconds) - takes) * 1e6}  # type: ignore[type-var, operator]


def threads_at_once(client: str, given: Circumstances, part: str) -> Rounds:
    threads, each = int(part), 2 if given.quick else 4
    with closing(CLIENTS[client](f"{given.slow_site}/10", 10, threads)) as peer:
        yield {}
        cpu_of(peer, threads, 1)  # connections open
        while True:
            began = time.perf_counter()
            cpu = cpu_of(peer, threads, each)
            share = each * SLOW / (time.perf_counter() - began)
            yield {f"cpu {part}": cpu, f"share {part}": share}


def live_streams(client: str, given: Circumstances, part: str) -> Rounds:
    streams, each = int(part), 1 if given.quick else 2
    threading.stack_size(256 * 1024)
    with closing(CLIENTS[client](given.live_site, CHUNKS, streams)) as peer:
        yield {}
        while True:
            before, began = resident(), time.perf_counter()
            cpu = cpu_of(peer, streams, each)
            share = each * SECONDS / (time.perf_counter() - began)
            memory = (resident() - before) / streams / 1024
            late = peer.run(partial(peer.latest_chunk, LATENCY, GAP), streams, 1)
            yield {
                f"cpu {part}": cpu / CHUNKS,
                f"share {part}": share,
                f"memory {part}": memory,
                f"late {part}": statistics.median(late) * 1e3,
            }


def open_streams(client: str, given: Circumstances, part: str) -> Rounds:
    count = given.times(1000)
    with closing(CLIENTS[client](f"{given.site}/{OPEN}", 1, count)) as peer:
        yield {}
        peer.hold(20, resident)  # what the first ones bring with them
        before = resident()
        yield {part: (peer.hold(count, resident) - before) / count / 1024}


def resident() -> int:
    """Bytes of memory that this process occupies (on Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def batch(client: str, given: Circumstances, part: str) -> Rounds:
    yield {}
    count = given.times(20_000)
    while True:
        began = time.perf_counter()
        if client == "ours":
            batch_on_all_cores(f"{given.site}/1", count)
        else:
            # As most people write it: a task for each prompt, and the connector's own limit.
            with closing(Aiohttp(f"{given.site}/1", 1, 100)) as peer:
                peer.run(peer.answer, count, 1)
        yield {part: count / (time.perf_counter() - began)}


def batch_on_all_cores(url: str, count: int) -> None:
    from aichatfree import Client

    # As it is in a user's process; one that was spawned would spawn in turn.
    context = multiprocessing.get_context(multiprocessing.get_all_start_methods()[0])
    with ProcessPoolExecutor(mp_context=context) as executor, Client(url) as client:
        prompts = [PROMPT] * count
        for result in client.batch(prompts, executor=executor, progress=False):
            if result.text != WORD:
                raise ValueError(f"a wrong answer: {result}")


IMPORTS = {
    "ours": "import aichatfree",
    "ours, with a client": "import aichatfree; aichatfree.Client('http://127.0.0.1:1')",
    "requests": "import requests, tenacity",
    "aiohttp": "import aiohttp",
    "httpx": "import httpx",
    "ollama": "import ollama",
    "openai": "import openai",
    "http.client": "import http.client",
}


def imports(client: str, given: Circumstances, part: str) -> Rounds:
    yield {}
    clock = "time.process_time()"
    code = f"import time; began = {clock}; {IMPORTS[client]}; print({clock} - began)"
    while True:
        # In a process that has imported nothing yet.
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise ImportError(done.stderr.splitlines()[-1])
        yield {part: float(done.stdout) * 1e3}


# --- what is asked of them --------------------------------------------------------------------

LIVE = ("1", "64", "256", "1000", "4000")
LIVE_TARGETS = {
    "cpu 64": {"aiohttp": Target(0.60)},
    "cpu 256": {"aiohttp": Target(0.60)},
    "cpu 1000": {"aiohttp": Target(0.90)},
    "share 4000": {"aiohttp": Target(1.00, at_least=True)},
}

WORKS = {
    "cpu": Work(
        "CPU for a request, us",
        {
            "1": Metric("1 chunk"),
            "10": Metric(
                "10 chunks",
                {
                    "requests": Target(0.55, aim=0.45),
                    "seed": Target(0.65),
                    "httpx": Target(0.60),
                    "ollama": Target(0.60),
                    "openai": Target(0.15),
                },
            ),
            "100": Metric("100 chunks"),
        },
        short_answers,
        starts=2,
        rounds=15,
    ),
    "stream": Work(
        "CPU for a chunk, us, of 100,000 in one stream",
        {"chunk": Metric("a chunk", {"requests": Target(1.10), "httpx": Target(0.25)})},
        long_answer,
        starts=1,
        rounds=4,
    ),
    "first": Work(
        "Time to the first chunk, us; the ratio is of what is beyond the socket's",
        {
            "1": Metric("1 thread", {"httpx": Target(1.00)}, beyond="socket"),
            "64": Metric("64 threads, of a site that takes 200 ms", beyond="socket"),
        },
        time_to_first_chunk,
        starts=1,
        rounds=5,
    ),
    "threads": Work(
        "Against a site that takes 200 ms: CPU for a request, us, and share of the most answers",
        {
            f"{kind} {threads}": Metric(f"{threads} threads, {title}")
            for kind, title in (("cpu", "CPU"), ("share", "share"))
            for threads in (8, 64, 256, 1000)
        },
        threads_at_once,
        starts=1,
        rounds=2,
        parts=("8", "64", "256", "1000"),
        takes_long=("256", "1000"),
    ),
    "live": Work(
        "100 chunks, one every 50 ms: CPU for a chunk, us; share of the most answers; KB a stream; "
        "by how much the latest chunk of a stream is late, ms",
        {
            f"{kind} {streams}": Metric(
                f"{streams} streams, {title}", LIVE_TARGETS.get(f"{kind} {streams}", {})
            )
            for kind, title in (
                ("cpu", "CPU"),
                ("share", "share"),
                ("memory", "KB"),
                ("late", "ms late"),
            )
            for streams in LIVE
        },
        live_streams,
        starts=1,
        rounds=1,
        parts=LIVE,
        takes_long=LIVE[2:],
        clients=("ours", "requests", "aiohttp", "httpx", "openai", "socket"),
    ),
    "memory": Work(
        "Memory of an open stream, KB, of 1,000",
        {"memory": Metric("a stream")},
        open_streams,
        starts=2,
        rounds=1,
    ),
    "batch": Work(
        "Answers a second in a batch of 20,000: ours on all cores, aiohttp in one process",
        {"rate": Metric("answers/s", {"aiohttp": Target(1.20, at_least=True)})},
        batch,
        starts=1,
        rounds=3,
        clients=("ours", "aiohttp"),
    ),
    "import": Work(
        "CPU of the import, ms",
        {"cpu": Metric("import", {"requests": Target(0.25)})},
        imports,
        starts=1,
        rounds=7,
        clients=tuple(IMPORTS),
    ),
}
