"""``Timeout``: the time limits of a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from ._arguments import check_number

_MIN_SECONDS: Final = 0.001

_UNLIMITED: Final = 100_000_000
"""Seconds, three years, from which on a limit counts as none: sockets and locks accept no more."""


@dataclass(frozen=True)
class Timeout:
    """Time limits in seconds; ``None`` is no limit.

    >>> aichatfree.Timeout(read=120, total=600)
    Timeout(connect=10, read=120, total=600)
    >>> print(client.generate("Name a river.", timeout=aichatfree.Timeout(total=30)))
    The Nile.

    Attributes:
        connect: to connect to one of the site's addresses, including the TLS handshake.
        read: the longest silence, before the answer begins and within it.
        total: the whole call, including retries and waits; in a batch it begins when the prompt's
            first request may be sent.

    Raises:
        TypeError: a limit is not a number.
        ValueError: a limit is below a millisecond.
    """

    connect: float | None = 10
    read: float | None = 60
    total: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect", "read", "total"):
            seconds = getattr(self, name)
            if seconds is not None:
                check_number(f"Timeout.{name}", seconds, min=_MIN_SECONDS, unit="seconds")
                if seconds > _UNLIMITED:
                    object.__setattr__(self, name, None)


TimeLimit: TypeAlias = Timeout | float


def timeout_from(timeout: object) -> Timeout:
    """A ``Timeout`` as it is; a number of seconds as its ``connect`` and ``read``.

    Raises:
        TypeError, ValueError: it is neither, or not positive.
    """
    if isinstance(timeout, Timeout):
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(
            f"timeout= takes a Timeout or a number of seconds, not {type(timeout).__name__}"
        )
    return Timeout(connect=timeout, read=timeout)
