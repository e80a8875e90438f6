"""Sites in a process of their own, so that they do not share our interpreter."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def elsewhere(serve: Callable[..., None], *arguments: Any) -> Iterator[str]:
    """The URL that ``serve(channel, *arguments)`` sends; it returns when it gets something back."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there, *arguments))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join()
