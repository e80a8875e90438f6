"""The pacer with threads on a real socket, beside tenacity's usual recipe."""

from __future__ import annotations

import contextlib
import http.client
import math
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

import tenacity

from aichatfree.pacing import Cancelled, Pacer
from benchmarks.pacing.servers import GCRA, FixedWindow, NoLimit, TokenBucket
from benchmarks.pacing.simulation import Limit

SERVICE = 0.1  # seconds that the server takes for a reply

Send = Callable[[], tuple[bool, float | None]]  # -> (accepted, Retry-After in seconds)


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


def serve(limit: Limit, parent: Connection) -> None:
    """The body of the child process: answer 200 after `SERVICE` seconds, or 429 at once."""
    lock = threading.Lock()
    started = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                accepted, seconds = limit.admit(time.monotonic() - started)
            if accepted:
                time.sleep(SERVICE + seconds)
            self.send_response(200 if accepted else 429)
            if not accepted:
                self.send_header("Retry-After", str(math.ceil(seconds)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Handler) as server:
        parent.send(server.server_port)
        server.serve_forever()


@contextlib.contextmanager
def running(limit: Limit) -> Iterator[int]:
    """The port of a server in a child process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=serve, args=(limit, theirs), daemon=True)
    child.start()
    try:
        yield ours.recv()
    finally:
        child.terminate()
        child.join()


class Connections:
    """One connection for each thread; an instance is a `Send`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def __call__(self) -> tuple[bool, float | None]:
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port)
        self._local.connection.request("POST", "/", body=b"{}")
        reply = self._local.connection.getresponse()
        reply.read()
        header = reply.headers["Retry-After"]
        return reply.status == 200, None if header is None else float(header)


class Tally:
    """Counts what happens until the time is over."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.accepted = self.rejected = self.first_burst = self.given_up = 0
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        with self._lock:
            if not self.stop.is_set():
                setattr(self, name, getattr(self, name) + 1)


def paced(send: Send, pacer: Pacer, tally: Tally) -> None:
    """Send one prompt until it is accepted; a retry waits for Retry-After and takes a new turn."""
    for _ in range(5):
        number = pacer.acquire(cancelled=tally.stop)
        unpaced = pacer.rate is None
        accepted, retry_after = send()
        if accepted:
            tally.count("accepted")
            return
        pacer.rejected(number, retry_after)
        tally.count("first_burst" if unpaced else "rejected")
        if tally.stop.wait(retry_after or 0):
            return
    tally.count("given_up")


def backed_off(send: Send, tally: Tally) -> None:
    """Send one prompt the usual way: five attempts with a random exponential wait."""
    retrying = tenacity.Retrying(
        wait=tenacity.wait_random_exponential(multiplier=1, max=60),
        stop=tenacity.stop_after_attempt(5) | tenacity.stop_when_event_set(tally.stop),
        retry=tenacity.retry_if_result(lambda accepted: not accepted),
        sleep=tenacity.sleep_using_event(tally.stop),
        retry_error_callback=lambda state: False,
    )

    def attempt() -> bool:
        accepted, _ = send()
        tally.count("accepted" if accepted else "rejected")
        return accepted

    if not retrying(attempt):
        tally.count("given_up")


def measure(cell: Cell, seconds: float, peer: bool, connect: Callable[[int], Send]) -> Tally:
    """Keep all threads of a cell busy for so many seconds."""
    tally, pacer = Tally(threading.Event()), Pacer()

    def work(send: Send) -> None:
        with contextlib.suppress(Cancelled):
            while not tally.stop.is_set():
                backed_off(send, tally) if peer else paced(send, pacer, tally)

    with running(cell.limit) as port:
        send = connect(port)
        threads = [threading.Thread(target=work, args=(send,)) for _ in range(cell.threads)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        tally.stop.set()
        for thread in threads:
            thread.join()
    return tally


def unlimited(pace: bool, connect: Callable[[int], Send]) -> float:
    """Seconds for 200 prompts on 32 threads against a server without a limit."""
    pacer, never = Pacer(), threading.Event()
    with running(NoLimit()) as port, ThreadPoolExecutor(32) as pool:
        send = connect(port)

        def prompt(_: int) -> None:
            if pace:
                pacer.acquire(cancelled=never)
            send()

        started = time.perf_counter()
        list(pool.map(prompt, range(200)))
        return time.perf_counter() - started


def report(seconds: float, connect: Callable[[int], Send] = Connections) -> None:
    """Print a line for each cell; `connect` makes a `Send` for a port, to try another client."""
    print(f"{'cell':36} {'policy':10} {'used':>5} {'rejected':>9} {'1st burst':>9} {'gave up':>7}")
    for cell in CELLS:
        for peer in (False, True):
            tally = measure(cell, seconds, peer, connect)
            used = tally.accepted / cell.limit.allowed(seconds)
            rejected = tally.rejected / max(1, tally.accepted)
            print(f"{cell.title:36} {'tenacity' if peer else 'pacer':10} {used:5.3f}", end="")
            print(f" {rejected:9.1%} {tally.first_burst:9} {tally.given_up:7}")
    print("\nno limit, 200 prompts, 32 threads: ", end="")
    print(f"pacer {unlimited(True, connect):.2f} s, none {unlimited(False, connect):.2f} s")
