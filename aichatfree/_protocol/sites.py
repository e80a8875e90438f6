"""What differs between deployments of the protocol: ``Site``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from .dialects import GEMINI, Dialect, TimeUnit
from .meanings import MEANINGS

Check: TypeAlias = Literal[
    "failure_tails", "notices", "refusals", "web_pages", "events", "reasoning", "error_words"
]
"""What is looked for in responses; each can be left out with ``Site.ignore``."""

_CHECKS: Final = get_args(Check)


@dataclass(frozen=True)
class Site:
    """What differs between deployments of the protocol.

    >>> site = aichatfree.Site("https://chat.example", aichatfree.OPENAI, time_unit="s")
    >>> aichatfree.Client(site)
    Client('https://chat.example', dialect='openai')

    What is looked for in responses can be wrong about an answer with the same words, so each kind
    can be left out with ``ignore``. Undetectable are: an answer that the site itself cut without a
    word, such as at the model's token limit, and a failure after a space that a proxy merged into
    the text.

    Attributes:
        base_url: scheme, host and, if need be, a path; the dialect's path is added to it.
        dialect: ``GEMINI``, ``OPENAI`` or a :class:`Dialect` of your own.
        time_unit: the unit of ``time`` in a request, ``"ms"`` or ``"s"``; ``None`` for the
            dialect's.
        secret: the key of the signature; never shown.
        quota_phrases: sentences that mean "quota used up"; as in ``sentences``.
        sentences: sentences of this site and what they mean. A complete answer with status 200 that
            begins with one is an error, and so is an error response with it anywhere. About your
            settings: ``"password"``, ``"lockout"`` (too many wrong passwords), ``"signature"``,
            ``"replay"`` (a signature used twice), ``"model"``, ``"dialect"``, ``"unauthorized"``,
            ``"no API"``; about the messages: ``"messages"``, ``"no text"``, ``"too long"``,
            ``"blocked"`` (by a safety filter); about you: ``"refused"`` (your network or region),
            ``"members"``, ``"human"`` (a captcha); about load: ``"quota"``, ``"rate"``,
            ``"payment"``, ``"overloaded"``, ``"failed"``; about the site: ``"key"``,
            ``"operator"``, ``"region"``, ``"upstream model"``, ``"gone"``, ``"switched off"``,
            ``"host timeout"``.
        ignore: what is not looked for in responses, where it would be wrong about honest answers:
            ``"failure_tails"`` (``Internal server error`` at the end), ``"notices"`` (a last
            paragraph such as ``[upstream error 502]``), ``"refusals"`` (a short answer that says
            that a limit is reached or access is denied), ``"web_pages"`` (HTML), ``"events"``
            (an event stream, or its end mark), ``"reasoning"`` (``<think>`` at the beginning) and
            ``"error_words"`` (words in error responses).
    """

    base_url: str = "https://aichatfree.info"
    dialect: Dialect = GEMINI
    time_unit: TimeUnit | None = None
    secret: str = dataclasses.field(default="", repr=False)
    quota_phrases: Sequence[str] = ("当前地区当日额度已消耗完",)
    sentences: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    ignore: Sequence[Check] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", check_base_url(self.base_url))
        object.__setattr__(self, "quota_phrases", tuple(self.quota_phrases))
        object.__setattr__(self, "ignore", tuple(self.ignore))
        if not isinstance(self.dialect, Dialect):
            raise TypeError("Site.dialect takes a Dialect, such as GEMINI or OPENAI")
        if self.time_unit not in ("ms", "s", None):
            raise ValueError(f'Site.time_unit takes "ms" or "s", not {self.time_unit!r}')
        if not isinstance(self.secret, str):
            raise TypeError(f"the secret must be a str, not {type(self.secret).__name__}")
        unknown = [check for check in self.ignore if check not in _CHECKS]
        if unknown:
            raise ValueError(f"Site.ignore takes {', '.join(_CHECKS)}, not {unknown[0]!r}")
        for meaning in self.refusals.values():
            if meaning not in MEANINGS:
                raise ValueError(f"Site.sentences: {meaning!r} is not one of {', '.join(MEANINGS)}")

    @property
    def refusals(self) -> Mapping[str, str]:
        """All sentences of the dialect and of this site, and what they mean."""
        quota = dict.fromkeys(self.quota_phrases, "quota")
        return {**self.dialect.sentences, **quota, **self.sentences}

    def looks_for(self, check: Check) -> bool:
        """Whether responses are searched for it."""
        return check not in self.ignore

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
