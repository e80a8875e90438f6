"""An engine that says what it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from aichatfree.protocol import Message


class Echo:
    """Answers each question at once with ``echo <question>``."""

    def generate(
        self, messages: list[Message], *, temperature: float | None, cancelled: threading.Event
    ) -> Iterator[str]:
        yield "echo "
        yield messages[-1]["content"]

    def close(self) -> None:
        """There is nothing to close."""
