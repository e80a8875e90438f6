"""Where a result goes first: into the journal, and to the circuit breaker."""

from __future__ import annotations

from dataclasses import dataclass

from ._circuit_breaker import CircuitBreaker
from ._journal import Journal
from ._prompts import Item
from ._results import BatchResult


@dataclass(frozen=True)
class Recorder:
    """Records each result, in the thread that has it first.

    So a result is in the journal before it waits for its place in the order, and a fatal error
    stops the other threads before they begin another prompt.

    Attributes:
        breaker: decides when the run stops.
        journal: the output file, if there is one.
    """

    breaker: CircuitBreaker
    journal: Journal | None = None

    def record(self, item: Item, result: BatchResult) -> None:
        """Write a result to the journal, then let the circuit breaker judge it.

        Raises:
            OSError: the journal cannot be written.
        """
        if self.journal is not None:
            self.journal.append(item, result)
        self.breaker.record(result.error)
