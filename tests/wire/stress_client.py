"""500 threads that ask, cancel and close at random, and a main thread that is interrupted.

Prints how many answers were right, and exits with 0 if none was wrong and nothing was left behind.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import gc
import random
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any

from aichatfree import AIChatFreeError, Client, RetryPolicy, Timeout

THREADS = 500
ALLOWED_ERRORS = {"StreamInterruptedError", "APIConnectionError", "APITimeoutError"}


def ask(client: Client, name: str, chance: random.Random, seen: collections.Counter[str]) -> None:
    """One question, asked in one of several ways; a wrong answer is an AssertionError."""
    prompt = " ".join(f"{name}w{number}" for number in range(chance.randint(1, 12)))
    way = chance.randrange(5)
    try:
        if way < 2:
            assert client.generate(prompt).text == prompt, "a foreign answer"
            seen["right"] += 1
            return
        with client.stream(prompt) as stream:
            if way == 2:
                threading.Timer(chance.uniform(0, 0.1), stream.cancel).start()
            for count, _ in enumerate(stream):
                if way == 3 and count == 2:
                    break
        assert prompt.startswith(stream.text), "a foreign answer"
        assert not stream.complete or stream.text == prompt, "an incomplete answer"
        seen["right"] += stream.complete
    except AIChatFreeError as error:
        kind = type(error).__name__
        seen[kind if kind in ALLOWED_ERRORS else f"WRONG {error!r}"] += 1


def work(client: Client, number: int, until: float, seen: collections.Counter[str]) -> None:
    chance = random.Random(number)
    turn = 0
    try:
        while time.monotonic() < until:
            turn += 1
            ask(client, f"{number}-{turn}-", chance, seen)
    except BaseException as error:
        seen[f"WRONG {error!r}"] += 1


def ask_interrupted(client: Client, until: float, seen: collections.Counter[str]) -> None:
    """In the main thread: each question is interrupted by Ctrl-C at a random moment."""
    armed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    chance = random.Random(0)
    while time.monotonic() < until:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.2))
            ask(client, "main", chance, seen)
            armed = False
        except KeyboardInterrupt:
            seen["interrupted"] += 1


def open_sockets(port: int) -> int:
    gc.collect()
    count = 0
    for each in gc.get_objects():
        if isinstance(each, socket.socket) and each.fileno() != -1:
            with contextlib.suppress(OSError, IndexError):
                count += each.getpeername()[1] == port
    return count


def main(port: int, seconds: float) -> int:
    faulthandler.dump_traceback_later(seconds + 45, exit=True)
    settings: dict[str, Any] = {
        "retry": RetryPolicy(initial_wait=0.01, max_wait=0.05),
        "timeout": Timeout(read=2, total=30),
    }
    client = Client(f"http://127.0.0.1:{port}", **settings)
    seen: collections.Counter[str] = collections.Counter()
    until = time.monotonic() + seconds
    threading.stack_size(256 * 1024)
    threads = [
        threading.Thread(target=work, args=(client, number, until, seen))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    ask_interrupted(client, until, seen)
    for thread in threads:
        thread.join()
    client.close()
    left = open_sockets(port)
    print(f"{dict(seen)}, {left} sockets left, {threading.active_count()} threads", flush=True)
    wrong = any(kind.startswith("WRONG") for kind in seen)
    return int(wrong or left > 0 or seen["right"] < THREADS or not seen["interrupted"])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
