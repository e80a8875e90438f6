"""``Client.check()``: whether the site can be reached and accepts each of the settings."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from ._protocol.dialects import DIALECTS, Dialect
from ._protocol.meanings import is_operators_fault, may_be_another_dialect
from ._protocol.messages import check_messages, replace_surrogates
from ._protocol.signing import request_body
from ._requester import Requester
from .errors import (
    AIChatFreeError,
    APIConnectionError,
    APIError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    ProtocolError,
    ServerError,
)
from .stream import Reply
from .timeout import Timeout

CHECK_TIMEOUT: Final = 60.0
"""Seconds that each request may take in total."""

CLOCK_TOLERANCE: Final = 60.0
"""Seconds that this machine's clock may differ from the site's."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    >>> print(client.check().findings[0])
    ok    url       http://127.0.0.1:... has a chat API

    Attributes:
        name: ``url``, ``clock``, ``password``, ``dialect``, ``signature`` or ``answer``.
        ok: whether it is right; ``None`` if that could not be determined.
        detail: what was observed and, if something is wrong, what to do.
        site: the base URL of the site.
    """

    name: str
    ok: bool | None
    detail: str
    site: str = ""

    def __str__(self) -> str:
        mark = {True: "ok", False: "WRONG", None: "?"}[self.ok]
        return f"{mark:<6}{self.name:<10}{self.detail}"


@dataclass(frozen=True)
class Health:
    """The findings of :meth:`Client.check`; ``str(health)`` has one line for each.

    If there are several sites, a line with its URL comes before the findings of each.

    >>> health = client.check()
    >>> health.ok, [finding.name for finding in health.findings if not finding.ok]
    (True, [])
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong and the site answered a prompt."""
        return all(finding.ok is not False for finding in self.findings)

    @property
    def by_site(self) -> dict[str, list[Finding]]:
        """The findings for each site, by its base URL."""
        sites: dict[str, list[Finding]] = {}
        for finding in self.findings:
            sites.setdefault(finding.site, []).append(finding)
        return sites

    def __str__(self) -> str:
        sites = self.by_site
        if len(sites) <= 1:
            return "\n".join(map(str, self.findings))
        return "\n".join("\n".join([site, *map(str, found)]) for site, found in sites.items())


def check_sites(requesters: Sequence[Requester]) -> Health:
    """Check each site, one after the other."""
    return Health(
        tuple(
            dataclasses.replace(finding, site=requester.settings.site.base_url)
            for requester in requesters
            for finding in _check_site(requester)
        )
    )


def _check_site(requester: Requester) -> list[Finding]:
    """Check the password and the clock, and send a short prompt, in other dialects if need be."""
    timeout = dataclasses.replace(requester.settings.timeout, total=CHECK_TIMEOUT)
    try:
        found = _ask_for_password(requester, timeout)
    except APIConnectionError as error:
        return [Finding("url", False, error.message)]
    for name, finding in _ask_question(requester, timeout).items():
        # The check that found a fault first describes it best.
        if name not in found or found[name].ok is not False:
            found[name] = finding
    order = ("url", "clock", "password", "dialect", "signature", "answer")
    return [found[name] for name in order if name in found]


def _ask_for_password(requester: Requester, timeout: Timeout) -> dict[str, Finding]:
    password = requester.settings.password
    text = None if password is None else replace_surrogates(password)
    exchange = requester.post("/api/auth", json.dumps({"pass": text}).encode(), timeout)
    now = time.time()
    body = exchange.read_up_to(1000)
    found = [_clock(exchange.headers, now)]
    code = _auth_code(body) if exchange.status == 200 else None
    if code is None:
        found.append(Finding("password", None, "the site does not say whether it is right"))
    elif code == 0:
        given = "is right" if password is not None else "is not needed"
        found.append(Finding("password", True, f"the password {given}"))
    else:
        found.append(_wrong_password(password))
    return {finding.name: finding for finding in found}


def _auth_code(body: bytes) -> int | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    code = value.get("code") if isinstance(value, dict) else None
    return code if isinstance(code, int) else None


def _wrong_password(password: str | None) -> Finding:
    what = "the site wants a password" if password is None else "the site refuses the password"
    return Finding("password", False, f"{what}: set password= (AICHATFREE_PASSWORD)")


def _clock(headers: Mapping[str, str], now: float) -> Finding:
    try:
        theirs = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return Finding("clock", None, "the site does not state its time")
    ahead = now - theirs
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding("clock", True, "this machine's clock agrees with the site's")
    way = "ahead of" if ahead > 0 else "behind"
    return Finding(
        "clock",
        False,
        f"this machine's clock is {abs(ahead):.0f} s {way} the site's: set it, or signatures may "
        "be refused",
    )


def _ask(requester: Requester, dialect: Dialect, timeout: Timeout) -> Reply:
    """Send the prompt in a dialect, once."""
    asking = requester.with_settings(requester.settings.changed({"dialect": dialect}))
    return asking.stream("Hello", timeout=timeout, retry=None, buffered=True).reply()


def _ask_question(requester: Requester, timeout: Timeout) -> dict[str, Finding]:
    site = requester.settings.site
    reached = Finding("url", True, f"{site.base_url} has a chat API")
    try:
        reply = _ask(requester, site.dialect, timeout)
    except AIChatFreeError as error:
        dialect = _other_dialect(requester, timeout, error)
        found = [reached, dialect] if dialect else _what_failed(error, reached)
    else:
        found = [
            reached,
            Finding("signature", True, "the site accepts the signature"),
            Finding("answer", True, f"the first text came after {reply.time_to_first_chunk:.2f} s"),
        ]
    return {finding.name: finding for finding in found}


def _other_dialect(
    requester: Requester, timeout: Timeout, error: AIChatFreeError
) -> Finding | None:
    """Try the other dialects if the error may come from the choice of one."""
    if not isinstance(error, APIError) or not may_be_another_dialect(error):
        return None
    site = requester.settings.site
    messages = check_messages([{"role": "user", "content": "Hello"}])
    tried = {request_body(site, messages, now=0)}
    for dialect in DIALECTS.values():
        body = request_body(dataclasses.replace(site, dialect=dialect), messages, now=0)
        if body in tried:
            continue
        tried.add(body)
        try:
            _ask(requester, dialect, timeout)
        except (BadRequestError, AuthenticationError, NotFoundError, ServerError, ProtocolError):
            continue
        except AIChatFreeError:
            pass  # such as a rate limit: the site accepted the request
        return Finding(
            "dialect",
            False,
            f"the site speaks another dialect: set dialect={dialect.name!r} (AICHATFREE_DIALECT)",
        )
    return None


def _what_failed(error: AIChatFreeError, reached: Finding) -> list[Finding]:
    message = error.message if isinstance(error, APIError) else str(error)
    if isinstance(error, APIError) and is_operators_fault(error):
        accepted = Finding("signature", True, "the site accepts the settings")
        return [reached, accepted, Finding("answer", False, f"not your settings: {message}")]
    if isinstance(error, (NotFoundError, ProtocolError)):
        return [Finding("url", False, message)]
    if isinstance(error, AuthenticationError):
        said = (error.body or "").lower()
        for name in ("password", "clock", "signature"):
            if name in said:
                return [reached, Finding(name, False, message)]
    return [reached, Finding("answer", False, message)]
