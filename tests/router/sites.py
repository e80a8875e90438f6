"""Routers over scripted sites, and what those sites have seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from aichatfree import Client, Router
from aichatfree.testing import Answer, FakeSite, Raw, Request
from helpers import echo

#: The first cool-down, in seconds, a little less: a site that failed gets nothing before.
COOL_DOWN = 0.95

Script = Callable[[Request], Any]

DOWN = Answer(status=500, body="Internal server error")
QUOTA = Answer(status=429, body="当前地区当日额度已消耗完", headers={"Retry-After": "36000"})
WRONG_PASSWORD = Answer(status=401, body='{"error":{"message":"Invalid password."}}')
NO_HEAD = Raw(b"", end="stall")


@contextmanager
def sites(*scripts: Any) -> Iterator[list[FakeSite]]:
    """Scripted sites, one for each script."""
    with ExitStack() as stack:
        yield [stack.enter_context(FakeSite(script)) for script in scripts]


@contextmanager
def router_over(*urls: str | Client, **settings: Any) -> Iterator[Router]:
    """A router over the sites at these URLs, or of these clients."""
    clients = [url if isinstance(url, Client) else Client(url) for url in urls]
    with Router(clients, **settings) as router:
        yield router


def until(seconds: float, answer: Any) -> Script:
    """A script that gives this answer for so many seconds, and then echoes each prompt."""
    began: list[float] = []

    def script(request: Request) -> Any:
        began.append(time.monotonic())
        return answer if time.monotonic() - began[0] < seconds else echo(request)

    return script


def times_of(site: FakeSite) -> list[float]:
    """When each request arrived, in seconds after the first."""
    return [request.received - site.requests[0].received for request in site.requests]


def texts_of(site: FakeSite) -> list[str]:
    """The prompts of all requests, in order."""
    return [request.text for request in site.requests]
