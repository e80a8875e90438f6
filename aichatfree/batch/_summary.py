"""What a run has done so far: its counts and its times."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from .._slot_queue import SlotQueue
from ._results import BatchResult


@dataclass
class Summary:
    """What a batch has done so far.

    >>> print(client.batch(["Name a river."]).run())
    1 answered, 0 failed, ... s, ... a second

    Attributes:
        answered: prompts answered by this run.
        answered_by: the same number for each site that has answered, by its base URL.
        failed: prompts without a complete answer.
        reused: prompts answered from an earlier run, or from an identical prompt of this run.
        elapsed: seconds since the start.
        rate_limit_wait: seconds that requests waited for the rate limit, all threads together.
        complete: whether every prompt has a result.
    """

    answered: int = 0
    failed: int = 0
    reused: int = 0
    elapsed: float = 0.0
    rate_limit_wait: float = 0.0
    complete: bool = False
    answered_by: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Prompts that have a result."""
        return self.answered + self.failed + self.reused

    def counts(self) -> dict[str, Any]:
        """The counts, and whether the run was complete, as plain data."""
        names = ("answered", "failed", "reused", "complete")
        return {name: getattr(self, name) for name in names}

    @property
    def rate(self) -> float:
        """Prompts answered per second."""
        return self.answered / self.elapsed if self.elapsed else 0.0

    def __str__(self) -> str:
        counts = [f"{self.answered} answered", f"{self.failed} failed"]
        if len(self.answered_by) > 1:
            by_site = [f"{count} by {site}" for site, count in self.answered_by.items()]
            counts[0] += f" ({', '.join(by_site)})"
        counts += [f"{self.reused} reused"] * bool(self.reused)
        counts += [f"{self.elapsed:.1f} s", f"{self.rate:.1f} a second"]
        waited = self.rate_limit_wait
        if waited >= 0.05:
            counts.append(f"{waited:.1f} s waited for the rate limit, all threads together")
        return ", ".join(counts)


class Meter:
    """Keeps the summary of one run current.

    Args:
        rate_limiter: whose waits count from :meth:`start` on.
    """

    def __init__(self, rate_limiter: SlotQueue[Any]) -> None:
        self.summary = Summary()
        self._rate_limiter = rate_limiter
        self._started: float | None = None
        self._wait_before = 0.0

    def start(self) -> None:
        """The run begins now."""
        self._rate_limiter.begin_run()
        self._wait_before = self._rate_limiter.total_wait
        self._started = time.monotonic()

    def count(self, result: BatchResult) -> None:
        """Count a prompt that has a result now."""
        if result.error is not None:
            self.summary.failed += 1
        elif result.reused:
            self.summary.reused += 1
        else:
            self.summary.answered += 1
            by_site = self.summary.answered_by
            by_site[result.site] = by_site.get(result.site, 0) + 1

    def measure(self) -> None:
        """Update the times."""
        if self._started is not None:
            self.summary.elapsed = time.monotonic() - self._started
            self.summary.rate_limit_wait = self._rate_limiter.total_wait - self._wait_before

    @property
    def waiting(self) -> int:
        """Requests that are waiting for the rate limit now."""
        return self._rate_limiter.waiting
