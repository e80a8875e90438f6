"""Who may ask: passwords, signatures, the clock, and replays."""

from __future__ import annotations

import hmac
import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from .._protocol.messages import replace_surrogates
from .._protocol.signing import generate_signature
from ._responses import refusal

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest ``time`` that the sites, written in JavaScript, print digit by digit."""
MAX_SECONDS: Final = 100_000_000_000
"""A ``time`` above this is in milliseconds, one below it in seconds."""

FREE_ATTEMPTS: Final = 3
"""Wrong passwords that an address may send before it has to wait."""
MAX_WAIT: Final = 8
"""Seconds that the wait grows to; it starts at one second and doubles."""
FORGET_AFTER: Final = 300.0
"""Seconds without an attempt after which the wrong passwords of an address are forgotten."""
MAX_ADDRESSES: Final = 10_000
"""Addresses that are remembered; then the one with the oldest attempt is forgotten."""
MAX_SIGNATURES: Final = 100_000
"""Signatures that are remembered, in about 20 MB."""


class Authenticator:
    """Checks each request as the real sites do: first the password, then the signature.

    Args:
        secret: the key of the signatures.
        passwords: those that clients may use; none at all lets everybody in.
        time_window: seconds that a request's ``time`` may be off; ``None`` for any time.
        refuse_replays: refuse a signature that was used before; needs a ``time_window``.

    Raises:
        ValueError: ``refuse_replays`` without a ``time_window``.
    """

    def __init__(
        self,
        *,
        secret: str = "",
        passwords: Sequence[str] = (),
        time_window: float | None = None,
        refuse_replays: bool = False,
    ) -> None:
        if refuse_replays and time_window is None:
            raise ValueError(
                "refuse_replays needs a time_window: signatures are remembered for that long"
            )
        self._secret = secret
        self._passwords = [_encoded(password) for password in passwords]
        self._time_window = time_window
        self._login_throttle = LoginThrottle()
        self._replay_cache = ReplayCache(time_window) if refuse_replays and time_window else None

    def check_password(self, address: str, password: str | None, *, signed: bool = False) -> bool:
        """Whether the password is right.

        Args:
            address: the IP address that it comes from.
            password: what the client sent; ``None`` for nothing.
            signed: whether the request has a valid signature.

        Raises:
            RefusalError: 429, the address has sent too many wrong passwords.
        """
        if not self._passwords:
            return True
        # Compare with all of them: the time taken must not tell which one matched.
        given = _encoded(password or "")
        valid = sum(hmac.compare_digest(given, each) for each in self._passwords) > 0
        # Web pages send an empty password to ask whether one is needed: that is not a guess.
        if password:
            wait = math.ceil(self._login_throttle.record_attempt(address, signed, valid))
            if wait:
                message = f"Too many wrong passwords: try again in {wait} s."
                raise refusal(429, message, Retry_After=str(wait))
        return valid

    def check_bearer(self, address: str, token: str | None) -> None:
        """Accept a request that has a password and no signature, as in OpenAI's API.

        Raises:
            RefusalError: 401 or 429, with the reason.
        """
        if self._secret and not self._passwords:
            raise refusal(
                401,
                "This gateway has a secret but no password, and OpenAI's API needs a password: "
                "start it with password= (AICHATFREE_PASSWORD) as well.",
                code="password_needed",
            )
        if not self.check_password(address, token):
            raise refusal(
                401,
                "Wrong API key: use the gateway's password (AICHATFREE_PASSWORD) as the API key.",
                code="invalid_api_key",
                WWW_Authenticate="Bearer",
            )

    def check_request(
        self, address: str, password: str | None, timestamp: object, signature: object, text: str
    ) -> None:
        """Accept a request whose last message is ``text``.

        Raises:
            RefusalError: 401, 429 or 503, with the reason.
        """
        signed = self._is_signed(timestamp, signature, text)
        if not self.check_password(address, password, signed=signed):
            raise refusal(401, "Invalid password.")
        if not signed:
            raise refusal(401, "Invalid signature.")
        assert isinstance(timestamp, int)
        assert isinstance(signature, str)
        self._check_time(timestamp)
        self._check_replay(signature)

    def _is_signed(self, timestamp: object, signature: object, text: str) -> bool:
        # Not isinstance: a bool is an int, but JavaScript prints it as a word.
        if type(timestamp) is not int or abs(timestamp) > MAX_SAFE_INTEGER:
            return False
        if not isinstance(signature, str):
            return False
        expected = generate_signature(timestamp, text, self._secret)
        return hmac.compare_digest(_encoded(signature), _encoded(expected))

    def _check_time(self, timestamp: int) -> None:
        if self._time_window is None:
            return
        seconds = timestamp / 1000 if timestamp > MAX_SECONDS else timestamp
        ahead = seconds - time.time()
        if abs(ahead) > self._time_window:
            raise refusal(
                401,
                f"Invalid signature: the client's clock is {abs(ahead):.0f} s "
                f"{'ahead of' if ahead > 0 else 'behind'} the server's; set it right.",
            )

    def _check_replay(self, signature: str) -> None:
        if self._replay_cache is None:
            return
        try:
            is_new = self._replay_cache.add(signature)
        except OverflowError:
            message = "Too many signatures to remember: try again in a while."
            raise refusal(503, message, Retry_After="10") from None
        if not is_new:
            raise refusal(
                401,
                "Invalid signature: a replay of an earlier request; sign the request again with "
                "the current time.",
            )


class LoginThrottle:
    """Counts the wrong passwords of each address, and makes the address wait after a few.

    While an address has to wait, its passwords are not checked, not even right ones. Otherwise a
    client that guesses could send all its guesses at once: the right one would be accepted. The
    refusal is immediate. Delaying it would occupy a connection for each guess, and would not slow
    down a client with many connections.

    Args:
        clock: seconds that never go backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards _attempts, from its lookup to its update: two simultaneous guesses count as two.
        # Nothing that may block is done while holding it.
        self._lock = threading.Lock()
        # (address, signed) -> (wrong passwords, when the wait ends); oldest attempt first.
        self._attempts: OrderedDict[tuple[str | bytes, bool], tuple[int, float]] = OrderedDict()

    def record_attempt(self, address: str, signed: bool, valid: bool) -> float:
        """The seconds for which the sender still has to wait, or 0 if this attempt counts.

        Args:
            address: the IP address that the attempt comes from.
            signed: whether the request has a valid signature. Those are counted separately, so that
                somebody who does not know the secret cannot lock out others at the same address.
            valid: whether the password is right.
        """
        sender = (_network(address), signed)
        with self._lock:
            now = self._clock()
            wrong, wait_until = self._attempts.pop(sender, (0, now))
            if now < wait_until:
                self._attempts[sender] = (wrong, wait_until)
                return wait_until - now
            if valid:
                return 0
            wrong = 1 if now - wait_until > FORGET_AFTER else wrong + 1
            doublings = min(wrong - FREE_ATTEMPTS, 10)
            wait = 0 if doublings < 0 else min(MAX_WAIT, 2**doublings)
            self._attempts[sender] = (wrong, now + wait)
            if len(self._attempts) > MAX_ADDRESSES:
                self._attempts.popitem(last=False)
            return 0


class ReplayCache:
    """Remembers each signature until the time window has closed for its request.

    Args:
        time_window: seconds that a request's time may be off, in either direction.
        clock: seconds that never go backwards.
    """

    def __init__(self, time_window: float, clock: Callable[[], float] = time.monotonic) -> None:
        # The signature of a client whose clock is ahead by the window is valid for twice as long.
        self._max_age = 2 * time_window
        self._clock = clock
        # Guards _added_at, from its lookup to its update: of two equal requests one is refused.
        # Nothing that may block is done while holding it.
        self._lock = threading.Lock()
        self._added_at: OrderedDict[str, float] = OrderedDict()

    def add(self, signature: str) -> bool:
        """Remember a valid signature; whether it was new.

        Raises:
            OverflowError: the cache is full. None is forgotten early, because then somebody who can
                sign could push a signature out and replay it.
        """
        with self._lock:
            now = self._clock()
            while self._added_at and next(iter(self._added_at.values())) < now - self._max_age:
                self._added_at.popitem(last=False)
            if signature in self._added_at:
                return False
            if len(self._added_at) >= MAX_SIGNATURES:
                raise OverflowError
            self._added_at[signature] = now
            return True


def _network(address: str) -> str | bytes:
    """An IPv4 address, or the first half of an IPv6 one: its user can choose the second half."""
    return ipaddress.IPv6Address(address).packed[:8] if ":" in address else address


def _encoded(text: str) -> bytes:
    return replace_surrogates(text).encode()
