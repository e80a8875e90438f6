"""What a fault is: a place where it happens, and what the caller is expected to get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aichatfree.testing import Answer, FakeSite, Raw, Request

#: The prompt that meets the fault.
FAULT: Final = "What is the fault?"
#: The answer to every other prompt.
WELL: Final = "All is well."

#: The class of the error for an incomplete answer.
BROKEN: Final = "StreamInterruptedError"

#: The head of a response whose framing is still missing, the head of a chunked response, and a
#: response after its first chunk.
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO: Final = CHUNKED + b"5\r\nHello\r\n"


@dataclass
class Place:
    """Where a fault happens.

    Attributes:
        url: the site.
        proxy: the URL of a proxy on the way, if there is one.
        requests: those that the site has received.
        elsewhere: those that another host has received, which should be none.
    """

    url: str
    proxy: str | None = None
    requests: list[Request] = field(default_factory=list)
    elsewhere: list[Request] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How often the prompt that meets the fault has arrived."""
        return sum(request.text == FAULT for request in self.requests)


Open = Callable[[], AbstractContextManager[Place]]


@dataclass(frozen=True)
class Case:
    """One fault, and what a client should make of it.

    Attributes:
        name: what happens, in a few words.
        open: makes the place where it happens.
        error: the class of the expected error; ``None`` where the answer is complete.
        text: the complete answer, or the part of it that arrives.
        retryable: whether the expected error allows a retry.
        fatal: whether every other prompt of a batch would fail in the same way.
        serves_others: whether the site answers other prompts.
        settings: of the client, in addition to short timeouts.
        rejected: whether the error means "too many requests", after which a batch waits.
        undetectable: why no client can distinguish this fault from a complete answer.
        arguable: the text that a client may also return as complete, because the specification
            can be read in both ways.
    """

    name: str
    open: Open
    error: str | None = None
    text: str = ""
    retryable: bool = True
    fatal: bool = False
    serves_others: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    rejected: bool = False
    undetectable: str = ""
    arguable: str | None = None

    def __str__(self) -> str:
        return self.name


def serving(answer: str | Answer | Raw) -> Open:
    """A site that answers the prompt ``FAULT`` with this, and every other one with ``WELL``."""

    @contextmanager
    def place() -> Iterator[Place]:
        with FakeSite(lambda request: answer if request.text == FAULT else WELL) as site:
            yield Place(site.url, requests=site.requests)

    return place


def timeouts(**seconds: float) -> dict[str, Any]:
    """Settings for the cases that end with a timeout; ``read`` is 0.4 s unless given."""
    return {"timeouts": {"read": 0.4, **seconds}}
