"""Wrong passwords: whoever sends a few has to wait before another one is looked at."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

FREE: Final = 3
"""Wrong passwords that nobody has to wait after."""
LONGEST: Final = 8
"""Seconds that the wait doubles to, from one on."""
QUIET: Final = 300.0
"""Seconds without an attempt after which all is forgotten."""
MOST: Final = 10_000
"""Senders that are remembered; beyond these, whoever was quiet for longest is forgotten."""


class Guesses:
    """Counts wrong passwords for each address, and says who has to wait.

    While an address has to wait its passwords are not looked at, not even right ones: otherwise a
    guesser would only have to wait for the right one to be told apart. And it is told so at once:
    a reply held back would need a thread for each, and slows nobody who has many connections.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._senders: OrderedDict[tuple[str | bytes, bool], tuple[int, float]] = OrderedDict()

    def wait(self, address: str, signed: bool, right: bool) -> float:
        """Note one attempt; the seconds that its sender has to wait, or 0 if it counts.

        Args:
            address: where it comes from.
            signed: whether its signature was right. Those are counted by themselves, so that who
                does not know the secret cannot make others wait who share an address with him.
            right: whether its password was right.
        """
        sender = (_network(address), signed)
        with self._lock:
            now = self._clock()
            wrong, until = self._senders.pop(sender, (0, now))
            if now < until:
                self._senders[sender] = (wrong, until)
                return until - now
            if right:
                return 0
            wrong = 1 if now - until > QUIET else wrong + 1
            pause = 0 if wrong < FREE else min(LONGEST, 2 ** min(wrong - FREE, 10))
            self._senders[sender] = (wrong, now + pause)
            if len(self._senders) > MOST:
                self._senders.popitem(last=False)
            return 0


def _network(address: str) -> str | bytes:
    """The address, or the first half of an IPv6 one: the other half is its user's to choose."""
    return ipaddress.IPv6Address(address).packed[:8] if ":" in address else address
