"""The client's batch on a real socket, beside tenacity's usual recipe in each thread.

The site counts, in a process of its own, so that no figure depends on what a client tells.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection

import requests
import tenacity

from aichatfree import Client
from aichatfree._adaptive_rate import INITIAL_RATE
from aichatfree._protocol.signing import request_body
from aichatfree._protocol.sites import Site
from aichatfree.testing import Answer, FakeSite, Request
from benchmarks.pacing.servers import GCRA, FixedWindow, TokenBucket
from benchmarks.pacing.simulation import ATTEMPTS, Limit

SERVICE = 0.1  # seconds that the site takes for an answer
TIMEOUT = 60.0  # seconds for everything that should take none
QUESTION = "Name a river."

FIRST_BURST = 0.5 / INITIAL_RATE
"""Seconds after the first rejection in which further ones belong to the first burst.

After its first rejection the rate limiter sends nothing for so long, so what is rejected within
that time was already in flight. The first retries of the other client are not counted either.
"""


@dataclass(frozen=True)
class Cell:
    title: str
    limit: Limit
    threads: int


CELLS = (
    Cell("bucket 5/s, burst 1 s, 8 threads", TokenBucket(5, 1), 8),
    Cell("bucket 50/s, burst 3 s, 32 threads", TokenBucket(50, 3), 32),
    Cell("GCRA 150/s, burst 3 s, 64 threads", GCRA(150, 3), 64),
    Cell("window 20/s, 32 threads", FixedWindow(20, 1), 32),
)


@dataclass
class Tally:
    """What became of the requests that reached the site within the measured seconds."""

    accepted: int = 0
    rejected: int = 0  # without the first burst
    first_burst: int = 0


class Limited:
    """A script for a `FakeSite`: it enforces a limit, and counts for so many seconds."""

    def __init__(self, limit: Limit, seconds: float) -> None:
        self.tally = Tally()
        self.begun = threading.Event()
        self._limit = limit
        self._seconds = seconds
        self._lock = threading.Lock()
        self._began = 0.0
        self._first_rejection = math.inf

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            if not self.begun.is_set():
                self._began = time.monotonic()
                self.begun.set()
            now = time.monotonic() - self._began
            accepted, seconds = self._limit.admit(now)
            if now < self._seconds:
                self._count(accepted, now)
        if accepted:
            return Answer("The Nile.", delay=SERVICE + seconds)
        return Answer(status=429, headers={"Retry-After": str(math.ceil(seconds))})

    def _count(self, accepted: bool, now: float) -> None:
        if accepted:
            self.tally.accepted += 1
            return
        self._first_rejection = min(self._first_rejection, now)
        if now < self._first_rejection + FIRST_BURST:
            self.tally.first_burst += 1
        else:
            self.tally.rejected += 1


def serve(limit: Limit, seconds: float, parent: Connection) -> None:
    """The body of the child process: tell the URL, and the tally when the seconds are over."""
    script = Limited(limit, seconds)
    with FakeSite(script, verify=True, record=False) as site:
        parent.send(site.url)
        script.begun.wait(TIMEOUT)
        time.sleep(seconds)
        parent.send(script.tally)
        parent.poll(TIMEOUT)  # requests that are in flight find the site there


@contextlib.contextmanager
def running(limit: Limit, seconds: float) -> Iterator[tuple[str, Connection]]:
    """The URL of a site in a child process, and the connection that its tally will come on."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=serve, args=(limit, seconds, theirs), daemon=True)
    child.start()
    theirs.close()  # so that the end of the child is noticed here
    try:
        yield ours.recv(), ours
    finally:
        child.terminate()
        child.join()
        ours.close()


def adaptive(url: str, threads: int, site: Connection) -> int:
    """Run a batch without an end until the site's tally is there; returns what was given up."""
    given_up = 0
    prompts = itertools.repeat(QUESTION)
    with (
        Client(url, secret="") as client,
        client.batch(prompts, max_workers=threads, ordered=False, progress=False) as batch,
    ):
        for result in batch:
            if site.poll():
                break
            given_up += not result.ok
    return given_up


def backed_off(url: str, threads: int, site: Connection) -> int:
    """The same the usual way: a session in each thread, and five attempts for each prompt."""
    over = threading.Event()

    def work() -> int:
        given_up = 0
        with requests.Session() as session:
            while not over.is_set():
                try:
                    ask(session)
                except tenacity.RetryError:
                    given_up += not over.is_set()
        return given_up

    @tenacity.retry(
        wait=tenacity.wait_random_exponential(multiplier=1, max=60),
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_when_event_set(over),
        sleep=tenacity.sleep_using_event(over),
    )
    def ask(session: requests.Session) -> None:
        body = request_body(Site(url), [{"role": "user", "content": QUESTION}], now=time.time())
        with session.post(f"{url}/api/generate", data=body, stream=True, timeout=TIMEOUT) as reply:
            reply.raise_for_status()
            for _ in reply.iter_content(None):
                pass

    with ThreadPoolExecutor(threads) as pool:
        counts = [pool.submit(work) for _ in range(threads)]
        try:
            site.poll(None)
        finally:
            over.set()
    return sum(count.result() for count in counts)


def report(seconds: float) -> None:
    """Print a line for each cell and policy."""
    print(f"{'cell':36} {'policy':10} {'used':>5} {'rejected':>9} {'1st burst':>9} {'gave up':>7}")
    for cell in CELLS:
        for policy, run in (("adaptive", adaptive), ("tenacity", backed_off)):
            with running(cell.limit, seconds) as (url, site):
                given_up = run(url, cell.threads, site)
                tally: Tally = site.recv()
            used = tally.accepted / cell.limit.allowed(seconds)
            rejected = tally.rejected / max(1, tally.accepted)
            print(f"{cell.title:36} {policy:10} {used:5.3f} {rejected:9.1%}", end="")
            print(f" {tally.first_burst:9} {given_up:7}", flush=True)
