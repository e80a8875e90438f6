"""The base URL ``"local"``: the built-in model, behind a gateway in this process."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, TypeVar

from ._forks import renew_after_fork
from ._protocol.sites import Site
from ._settings import environment

LOCAL: Final = "local"

T = TypeVar("T", bound="str | Site | None")


def is_local(base_url: str | Site | None) -> bool:
    """Whether this argument, or the environment in its place, means the built-in model."""
    return (environment("BASE_URL") if base_url is None else base_url) == LOCAL


@contextmanager
def site_of_base_url(base_url: T) -> Iterator[tuple[T | Site, Callable[[], None] | None]]:
    """The site that a client is to use, for a block that makes the client of it.

    Yields:
        The built-in model, and what closes it, which is done here if the block raises; for another
        site ``base_url`` itself, and ``None``.

    Raises:
        ImportError: the extra ``local`` is not installed, or a system library that it needs.
        AIChatFreeError: the model could not be downloaded or loaded.
    """
    if not is_local(base_url):
        yield base_url, None
        return
    client = ExitStack()
    with ExitStack() as block:
        yield block.enter_context(_local_site()), client.close
        client.push(block.pop_all())  # the block made its client, which closes the model later


@contextmanager
def _local_site() -> Iterator[Site]:
    """The built-in model as a site, for as long as the block is not left."""
    user = object()
    try:
        yield _model.acquire(user)
    finally:
        _model.release(user)


class _LocalModel:
    """The built-in model of this process, which all its users share: it needs 350 MB.

    It is loaded for its first user, who waits for that, and closed after its last one. A child
    process has a model of its own.
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        # Guards all attributes. Held while the model is loaded and closed, so that there is never
        # more than one. Nothing that the gateway calls takes it.
        self._lock = threading.Lock()
        self._users: set[object] = set()
        self._site: Site | None = None
        self._running = ExitStack()

    def acquire(self, user: object) -> Site:
        with self._lock:
            if self._site is None:
                self._site = self._start()
            self._users.add(user)
            return self._site

    def release(self, user: object) -> None:
        with self._lock:
            if user not in self._users:  # it could not be loaded, or this is a child process
                return
            self._users.remove(user)
            if not self._users:
                self._site = None
                self._running.close()

    def _start(self) -> Site:
        from .gateway import Gateway, SmolLM2

        # The key keeps other users of this machine out.
        secret = secrets.token_hex(16)
        with ExitStack() as stack:
            model = SmolLM2()
            stack.callback(model.close)
            # Now, because downloading the model can take longer than a request may.
            model.load()
            gateway = stack.enter_context(Gateway(model, secret=secret))
            self._running = stack.pop_all()
        return Site(gateway.url, secret=secret)


_model: Final = _LocalModel()
