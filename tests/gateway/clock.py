"""A clock that the tests set."""

from __future__ import annotations


class Clock:
    """Stands for `time.monotonic`; `reads` counts how often it was read."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now
