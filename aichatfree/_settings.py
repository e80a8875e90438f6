"""The settings of a client: each from its argument, else the environment, else a default."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self, TypedDict

import requests

from ._arguments import check_number, check_optional_str
from ._protocol.dialects import DIALECTS, Dialect
from ._protocol.sites import Site
from .retry import Retry, RetryPolicy, check_retry
from .timeout import TimeLimit, Timeout, timeout_from

MAX_REPLY_BYTES: Final = 16 << 20
"""The default of ``max_reply_bytes``; the longest answers of real models have about 100 KB."""


class ClientOptions(TypedDict, total=False):
    """The settings that :meth:`Client.with_options` may change."""

    dialect: str | Dialect | None
    secret: str | None
    password: str | None
    model: str | None
    system: str | None
    timeout: TimeLimit
    retry: Retry


@dataclass(frozen=True)
class CallSettings:
    """What a call takes from its client; the settings of a client of several sites."""

    CHANGEABLE: ClassVar[Iterable[str]] = ("system", "timeout", "retry")

    system: str | None
    timeout: Timeout
    retry: Retry

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """These settings with the changes of :meth:`Client.with_options`.

        Raises:
            TypeError, ValueError: a change is unknown or cannot be used.
        """
        unknown = sorted(set(changes).difference(self.CHANGEABLE))
        if unknown:
            raise TypeError(
                f"with_options() cannot change {unknown[0]!r}, only "
                f"{', '.join(sorted(self.CHANGEABLE))}: make a new client for the rest"
            )
        settings = dict(changes)
        if "timeout" in changes:
            settings["timeout"] = timeout_from(changes["timeout"])
        if "retry" in changes:
            check_retry(changes["retry"])
        for name in ("password", "model", "system"):
            check_optional_str(name, settings.get(name))
        return self._with(settings)

    def _with(self, settings: dict[str, Any]) -> Self:
        return dataclasses.replace(self, **settings)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain data, for another process; without secrets.

        Raises:
            ValueError: some of them cannot be sent there.
        """
        if not isinstance(self.retry, RetryPolicy | None):
            raise not_portable("a tenacity object")
        return {
            "system": self.system,
            "timeout": dataclasses.asdict(self.timeout),
            "retry": None if self.retry is None else dataclasses.asdict(self.retry),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The settings of :meth:`to_dict`, with the secrets of this process's environment."""
        return cls(**cls._arguments(data))

    @classmethod
    def _arguments(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "system": data["system"],
            "timeout": Timeout(**data["timeout"]),
            "retry": None if data["retry"] is None else RetryPolicy(**data["retry"]),
        }


@dataclass(frozen=True)
class Settings(CallSettings):
    """What a client of one site may change while it keeps its connections.

    Attributes:
        secret_env: the environment variable from which another process takes the secret; ``None``
            if there is none.
        password_env: the one from which it takes the password.
    """

    CHANGEABLE = tuple(ClientOptions.__annotations__)

    site: Site
    password: str | None = field(repr=False)
    model: str | None
    secret_env: str | None = "AICHATFREE_SECRET"
    password_env: str | None = "AICHATFREE_PASSWORD"

    @classmethod
    def from_arguments(
        cls,
        base_url: str | Site | None,
        dialect: str | Dialect | None,
        secret: str | None,
        password: str | None,
        model: str | None,
        system: str | None,
        timeout: TimeLimit,
        retry: Retry,
    ) -> Settings:
        """The settings of :class:`Client`'s arguments, completed from the environment.

        Raises:
            TypeError, ValueError: an argument or a variable cannot be used.
        """
        if isinstance(base_url, Site):
            site = base_url
        else:
            url = _first(base_url, environment("BASE_URL"))
            site = Site() if url is None else Site(url)
            dialect = _first(dialect, environment("DIALECT"))
            secret = _first(secret, environment("SECRET"))
        return cls(
            site=_site_with(site, dialect, secret),
            password=check_optional_str("password", _first(password, environment("PASSWORD"))),
            model=check_optional_str("model", _first(model, environment("MODEL"))),
            system=check_optional_str("system", system),
            timeout=timeout_from(timeout),
            retry=check_retry(retry),
        )

    def _with(self, settings: dict[str, Any]) -> Self:
        site = _site_with(self.site, settings.pop("dialect", None), settings.pop("secret", None))
        return dataclasses.replace(self, site=site, **settings)

    def to_dict(self) -> dict[str, Any]:
        if self.site.secret != (_variable(self.secret_env) or ""):
            raise not_portable(f"secret=, unless it is in {self.secret_env}")
        if self.password != _variable(self.password_env):
            raise not_portable(f"password=, unless it is in {self.password_env}")
        return {
            **super().to_dict(),
            "site": {**dataclasses.asdict(self.site), "secret": ""},
            "model": self.model,
            "secret_env": self.secret_env,
            "password_env": self.password_env,
        }

    @classmethod
    def _arguments(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        site = dict(data["site"])
        site["dialect"] = Dialect(**site["dialect"])
        site["quota_phrases"] = tuple(site["quota_phrases"])
        site["secret"] = _variable(data["secret_env"]) or ""
        return {
            **super()._arguments(data),
            "site": Site(**site),
            "password": _variable(data["password_env"]),
            "model": data["model"],
            "secret_env": data["secret_env"],
            "password_env": data["password_env"],
        }


@dataclass(frozen=True)
class ConnectionOptions:
    """What stays the same as long as a client keeps its connections; see :class:`Client`."""

    max_requests_per_minute: float | None = None
    max_connections: int = 32
    max_reply_bytes: int | None = MAX_REPLY_BYTES
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    proxies: Mapping[str, str] | None = field(default=None, repr=False)
    verify: bool | str = True
    session: requests.Session | None = None

    def __post_init__(self) -> None:
        check_number("max_connections", self.max_connections, min=1, max=10_000, integer=True)
        if self.max_reply_bytes is not None:
            most = sys.maxsize - 1
            check_number("max_reply_bytes", self.max_reply_bytes, min=1, max=most, integer=True)
        if not isinstance(self.verify, (bool, str)) or self.verify == "":
            raise TypeError(
                "verify= takes True, False, or the path of a certificate authority's file"
            )
        if self.session is not None and not isinstance(self.session, requests.Session):
            raise TypeError("session= takes a requests.Session")
        _check_headers(self.headers)
        _check_proxies(self.proxies)

    def to_dict(self, share: float) -> dict[str, Any]:
        """The options as plain data for another process, which gets a share of the rate limit.

        Raises:
            ValueError: some of them cannot be sent there.
        """
        if (self.headers, self.proxies, self.verify, self.session) != (None, None, True, None):
            raise not_portable("headers=, proxies=, verify= and session=")
        limit = self.max_requests_per_minute
        return {
            "max_requests_per_minute": None if limit is None else limit * share,
            "max_reply_bytes": self.max_reply_bytes,
        }


def environment(name: str) -> str | None:
    """The variable ``AICHATFREE_<name>``, or ``None`` if it is empty or not set."""
    return _variable(f"AICHATFREE_{name}")


def _variable(name: str | None) -> str | None:
    return None if name is None else os.environ.get(name) or None


def _first(argument: Any, otherwise: Any) -> Any:
    return otherwise if argument is None else argument


def _site_with(site: Site, dialect: str | Dialect | None, secret: str | None) -> Site:
    if isinstance(dialect, str):
        if dialect not in DIALECTS:
            known = " or ".join(map(repr, DIALECTS))
            raise ValueError(f"unknown dialect {dialect!r}: use {known} (AICHATFREE_DIALECT)")
        dialect = DIALECTS[dialect]
    if dialect is not None:
        site = dataclasses.replace(site, dialect=dialect)
    return site if secret is None else dataclasses.replace(site, secret=secret)


def not_portable(what: str) -> ValueError:
    """The error for what only this process can use."""
    return ValueError(
        f"{what}: this cannot be sent to the workers of an executor. Give client_factory=, a "
        "function that makes their client"
    )


def _check_headers(headers: object) -> None:
    if headers is None:
        return
    if not isinstance(headers, Mapping):
        raise TypeError("headers= takes a dict of str")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers must be str, but {name!r} or its value is not")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", name, re.ASCII):
            raise ValueError(f"{name!r} is not a valid header name")
        if name.lower() in ("content-length", "transfer-encoding"):
            raise ValueError(f"the header {name!r} is set for each request: leave it out")
        if value != value.strip() or not value.isprintable() or not value.isascii():
            # Only the name: the value may be a token.
            raise ValueError(
                f"the value of the header {name!r} has a line break, a space at its start or end, "
                "or a character that is not ASCII"
            )


def _check_proxies(proxies: object) -> None:
    if proxies is None:
        return
    if not isinstance(proxies, Mapping) or not all(
        isinstance(value, str) for value in proxies.values()
    ):
        raise TypeError('proxies= takes a dict such as {"https": "http://proxy.example:3128"}')
