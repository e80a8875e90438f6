"""Where the CPU of one of our requests goes: ``python -m benchmarks.profile``.

A timer that counts CPU time, not the time on the wall, looks at the stack of a loop that asks for
answers of 10 chunks. Printed is the tree of calls, as far as a call has 5 % and more of them all,
each with its share: what it calls included, and of its own.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from aichatfree import Client
from benchmarks.raw_site import raw_site
from benchmarks.wire import answers

SECONDS = 20.0
LEAST = 0.05

Stack = tuple[str, ...]


def samples() -> Counter[Stack]:
    """How often each stack was seen, from ``generate`` on, in so many seconds of CPU."""
    seen: Counter[Stack] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None and frame.f_code is not samples.__code__:
            stack.append(name_of(frame))
            frame = frame.f_back
        seen[tuple(reversed(stack))] += 1

    signal.signal(signal.SIGPROF, look)
    with raw_site(answers=answers(10)) as site, Client(f"{site}/10") as client:
        client.generate("Hello, how are you?")
        signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
        end = time.process_time() + SECONDS
        while time.process_time() < end:
            client.generate("Hello, how are you?")
        signal.setitimer(signal.ITIMER_PROF, 0)
    return seen


def name_of(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.stem} {frame.f_code.co_name}"


def tree(seen: Counter[Stack], above: Stack = ()) -> None:
    """Print what is called directly from this stack, each followed by its own calls."""
    total = seen.total()
    depth = len(above)
    below: Counter[str] = Counter()
    for stack, count in seen.items():
        if len(stack) > depth and stack[:depth] == above:
            below[stack[depth]] += count
    for name, count in below.most_common():
        if count >= LEAST * total:
            own = seen[(*above, name)]
            print(f"{count / total:6.1%} {own / total:6.1%}  {'  ' * depth}{name}")
            tree(seen, (*above, name))


if __name__ == "__main__":
    tree(samples())
