"""``Router``: several sites as one client."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Self

from ._routing import RoutingRequester
from ._settings import CallSettings
from ._sites_file import file_of_environment, read_sites
from .client import Client
from .retry import Retry, RetryPolicy, check_retry
from .timeout import TimeLimit, Timeout, timeout_from


class Router(Client):
    """Several sites as one client: each prompt goes to the site that can take it soonest.

    It has all methods of :class:`Client`, and works wherever a client is expected. A failure of the
    site (no connection, a 5xx, a rejection, a used-up quota, a wrong password, a broken answer)
    moves the prompt to another site at once; a failure that is due to the prompt does not. A site
    that failed gets no prompts for as long as it states, or for a second, then two, four, ... up to
    five minutes; then one prompt tries it again. After a fatal error, such as a wrong password, it
    is not used any more. In a batch the rate limits of the sites add up.

    Once :meth:`~Client.stream` has returned a chunk, the answer stays with its site; a conversation
    stays with its site while that works. ``Reply.site`` and ``BatchResult.site`` say which one
    answered.

    >>> first, second = aichatfree.Client(timeout=30), aichatfree.Client("http://127.0.0.1:1")
    >>> with aichatfree.Router([first, second]) as router:
    ...     print(router.generate("Name a river."))
    The Nile.
    >>> aichatfree.Router([aichatfree.Client("https://a.example", dialect="openai"), second])
    Router([Client('https://a.example', dialect='openai'), Client('http://127.0.0.1:1', ...)])

    Args:
        clients: one for each site; another ``Router`` stands for all of its sites. All settings of
            the clients apply, except ``timeout`` and ``retry``. They are closed with the router.
        timeout: a :class:`Timeout`, or seconds for its ``connect`` and ``read``.
        retry: as for a client, but for failures of sites ``max_attempts`` is multiplied by the
            number of sites.

    Raises:
        TypeError: ``clients`` is not a list of clients, or an argument has the wrong type.
        ValueError: there is no client, or an argument cannot be used.
    """

    def __init__(
        self,
        clients: Iterable[Client],
        *,
        timeout: TimeLimit = Timeout(),  # noqa: B008  (frozen)
        retry: Retry = RetryPolicy(),  # noqa: B008  (frozen)
    ) -> None:
        given = [clients] if isinstance(clients, (str, Client)) else list(clients)
        if isinstance(clients, (str, Client)) or not all(isinstance(c, Client) for c in given):
            raise TypeError("Router takes a list of clients: Router([Client(...), Client(...)])")
        if not given:
            raise ValueError("Router needs at least one client: Router([Client(...), Client(...)])")
        requesters = [each for client in given for each in client._requester.requesters]
        settings = CallSettings(None, timeout_from(timeout), check_retry(retry))
        self._requester = RoutingRequester(requesters, settings)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """A router for the sites of a TOML file. Their secrets are read from the environment.

        >>> with open("aichatfree.toml", "w") as file:
        ...     _ = file.write('''
        ... [[site]]
        ... base_url = "https://a.example"
        ... dialect = "openai"
        ... max_requests_per_minute = 10
        ...
        ... [[site]]
        ... base_url = "https://b.example"
        ... ''')
        >>> aichatfree.Router.from_file("aichatfree.toml")
        Router([Client('https://a.example', dialect='openai'), Client('https://b.example', ...)])

        Args:
            path: of the file. The keys of a ``[[site]]`` are ``base_url`` (also ``"local"``),
                ``dialect``, ``model``, ``system`` and ``max_requests_per_minute``, as for
                :class:`Client`, ``ignore``, as for :class:`Site`, and ``secret_env`` and
                ``password_env``, the names of environment variables.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not a file of sites, or a variable that it names is not set.
            ImportError: it names ``"local"``, and the extra ``local`` is not installed.
        """
        settings = CallSettings(None, Timeout(), RetryPolicy())
        return cls._using(RoutingRequester(read_sites(path), settings))

    def __repr__(self) -> str:
        sites = [each.settings.site for each in self._requester.requesters]
        clients = [f"Client({site.base_url!r}, dialect={site.dialect.name!r})" for site in sites]
        return f"Router([{', '.join(clients)}])"


def secrets_of(client: Client) -> list[str]:
    """The secrets and passwords that a client uses, those of all its sites."""
    settings = [each.settings for each in client._requester.requesters]
    return [value for each in settings for value in (each.password, each.site.secret) if value]


def client_from_environment() -> Client:
    """A router for the sites in the file ``AICHATFREE_SITES``, if it is set, else a client.

    Raises:
        OSError, ValueError: the file or a variable cannot be used.
    """
    path = file_of_environment()
    return Client() if path is None else Router.from_file(path)
