"""What differs between deployments of the protocol: ``Site``."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from .dialects import GEMINI, Dialect


@dataclass(frozen=True)
class Site:
    """What differs between deployments of the protocol.

    >>> site = aichatfree.Site("https://chat.example", aichatfree.OPENAI, time_unit="s")
    >>> aichatfree.Client(site)
    Client('https://chat.example', dialect='openai')

    Attributes:
        base_url: scheme, host and, if need be, a path; ``/api/generate`` is added to it.
        dialect: ``GEMINI``, ``OPENAI`` or a :class:`Dialect` of your own.
        time_unit: the unit of ``time`` in a request: ``"ms"``, or ``"s"`` on a few deployments.
        secret: the key of the signature; never shown.
        quota_phrases: sentences that mean "quota used up" where they are a whole answer with
            status 200, or stand anywhere in an error 500.
        default_model: the model named in a request where the user names none.
    """

    base_url: str = "https://aichatfree.info"
    dialect: Dialect = GEMINI
    time_unit: Literal["ms", "s"] = "ms"
    secret: str = dataclasses.field(default="", repr=False)
    quota_phrases: tuple[str, ...] = ("当前地区当日额度已消耗完",)
    default_model: str = "gemini-1.5-pro"

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", check_base_url(self.base_url))
        if not isinstance(self.dialect, Dialect):
            raise TypeError("Site.dialect takes a Dialect, such as GEMINI or OPENAI")
        if self.time_unit not in ("ms", "s"):
            raise ValueError(f'Site.time_unit takes "ms" or "s", not {self.time_unit!r}')
        if not isinstance(self.secret, str):
            raise TypeError(f"the secret must be a str, not {type(self.secret).__name__}")

    @property
    def origin(self) -> str:
        """Scheme and host, as a browser would name them in ``Origin``."""
        parts = urlsplit(self.base_url)
        host = (parts.hostname or "").encode("idna").decode()
        host = f"[{host}]" if ":" in host else host
        usual = {"http": 80, "https": 443}[parts.scheme]
        port = "" if parts.port in (None, usual) else f":{parts.port}"
        return f"{parts.scheme}://{host}{port}"


def check_base_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        TypeError: it is not a ``str``.
        ValueError: it is not a usable http or https URL.
    """
    if not isinstance(url, str):
        raise TypeError(f"base_url must be a str, not {type(url).__name__}")
    example = "write it like https://aichatfree.info"
    if any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError(f"base_url has a space or control character in it: {example}")
    if "?" in url or "#" in url:
        raise ValueError(f"base_url must not have a ? or # part: {example}")
    if "@" in url and not re.match(r"https?://[^/@]+/", url):
        # None of these messages shows a URL with a password in it.
        raise ValueError("base_url must not hold a user name or password: send them in headers=")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise ValueError(f"base_url is not a URL: {example}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url {url!r} needs http:// or https:// and a host: {example}")
    if port == 0:
        raise ValueError(f"base_url {url!r} has port 0: {example}")
    if parts.path.rstrip("/").endswith("/api/generate"):
        raise ValueError(f"base_url {url!r} must end before /api/generate, which is added to it")
    return url.rstrip("/")
