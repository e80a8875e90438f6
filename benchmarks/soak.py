"""Mixed traffic for five minutes: ``python -m benchmarks.soak [SECONDS]``.

Sixteen threads ask one client in every way there is, on a site in another process that answers
well, badly or not at all. Printed each 30 seconds, and at the start and the end with nothing under
way: threads, open files (sockets included) and memory, which must not grow.
"""

from __future__ import annotations

import gc
import os
import pickle
import random
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection

from aichatfree import AIChatFreeError, Client, RetryPolicy, Timeout
from aichatfree.testing import Answer, FakeSite, Raw, Reply, Request
from benchmarks.elsewhere import elsewhere

THREADS = 16
PAUSE = 0.02  # seconds that a thread rests after each turn, so that an hour's worth takes minutes
EVERY = 30.0  # seconds between two lines
SEED = 7

REPLIES: list[Reply] = [
    *[Answer("All ", "is ", "well."), Answer("Ένα ", "δύο ", "三", split=5)] * 6,
    Answer(*["chunk "] * 200),
    Answer("x" * 500_000),
    Answer("slow", "ly", delay=0.05, gap=0.05),
    Answer("Hel", end="cut"),
    Answer("Hel", end="reset"),
    Answer("Hel", end="stall"),
    Answer("Hel", end="tail"),
    Answer("whole", framing="close"),
    Answer("whole", framing="length", headers={"Connection": "close"}),
    Answer(),
    Answer("<html>", content_type="text/html"),
    Answer(status=500, body="fetch failed"),
    Answer(status=400, body="No."),
    Raw(end="reset"),
    Raw(end="stall"),
    Raw(b"HTTP/1.1 20"),
]


def serve(channel: Connection) -> None:
    chance = random.Random(SEED)

    def answer(request: Request) -> Reply:
        return chance.choice(REPLIES)

    with FakeSite(answer, record=False) as site:
        channel.send(site.url)
        channel.recv()


def generate(client: Client) -> None:
    client.generate("How is it?")


def stream_whole(client: Client) -> None:
    with client.stream("How is it?") as stream:
        stream.read()


def stream_left(client: Client) -> None:
    with client.stream("How is it?") as stream:
        next(stream)


def stream_cancelled(client: Client) -> None:
    stream = client.stream("How is it?")
    threading.Timer(0.01, stream.cancel).start()
    stream.read()


def chat(client: Client) -> None:
    conversation = client.chat(system="Short answers.")
    for question in ("Hello?", "And then?"):
        conversation.send(question)


def batch(client: Client) -> None:
    list(client.batch(["a", "b", "c", "d"], max_workers=2, progress=False, ordered=False))


def copy(client: Client) -> None:
    with pickle.loads(pickle.dumps(client)) as other:
        other.generate("How is it?")


WAYS: list[Callable[[Client], None]] = [
    *[generate, stream_whole] * 4,
    stream_left,
    stream_cancelled,
    chat,
    batch,
    copy,
]


def work(client: Client, number: int, stop: threading.Event, outcomes: Counter[str]) -> None:
    chance = random.Random(number)
    while not stop.wait(PAUSE):
        try:
            chance.choice(WAYS)(client)
            outcomes["answered"] += 1
        except AIChatFreeError as error:
            outcomes[type(error).__name__] += 1


def state() -> str:
    gc.collect()
    with open("/proc/self/statm") as statm:
        memory = int(statm.read().split()[1]) * resource.getpagesize() / 1e6
    files = len(os.listdir("/proc/self/fd"))
    return f"{threading.active_count():3} threads  {files:3} files  {memory:6.1f} MB"


def soak(client: Client, seconds: float, outcomes: Counter[str]) -> None:
    stop = threading.Event()
    threads = [
        threading.Thread(target=work, args=(client, number, stop, outcomes))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(EVERY, left))
        print(f"{seconds - left + min(EVERY, left):5.0f} s  {state()}  {outcomes.total()} turns")
    stop.set()
    for thread in threads:
        thread.join()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    outcomes: Counter[str] = Counter()
    with elsewhere(serve) as url:
        retry = RetryPolicy(max_attempts=2, initial_wait=0.01, jitter=0.01)
        with Client(url, timeout=Timeout(read=0.3, total=5), retry=retry) as client:
            soak(client, min(20.0, seconds), Counter())  # libraries load, caches fill
            time.sleep(2)
            print(f"start    {state()}")
            soak(client, seconds, outcomes)
            time.sleep(2)
            print(f"end      {state()}")
        print(f"closed   {state()}")
    for name, count in outcomes.most_common():
        print(f"{count:7} {name}")


if __name__ == "__main__":
    main()
