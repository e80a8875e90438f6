"""The engine of tests that are about the gateway."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from aichatfree.protocol import Message


class Echo:
    """An engine that repeats the question."""

    def generate(
        self, messages: list[Message], *, temperature: float | None, cancelled: threading.Event
    ) -> Iterator[str]:
        yield messages[-1]["content"]

    def close(self) -> None:
        """There is nothing to close."""
