"""Whether prompts are sent to a site: the circuit breaker of one site among several.

Pure arithmetic on times that are passed in.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

from ..errors import APIError

MIN_COOL_DOWN: Final = 1.0
"""Seconds after the first failure; doubled for each further one until the site answers."""
MAX_COOL_DOWN: Final = 300.0
"""Seconds; a wait that the site states may be longer."""
MIN_REJECTION_TIME: Final = 0.1
"""Seconds that a site is given to reject a probe, half of the time that the others wait for it."""
LONG_OUTAGE: Final = 120.0
"""Seconds without an answer after which waiting for a site is pointless for now."""
LONG_WAIT: Final = 600.0
"""Seconds of a stated wait from which on waiting for it is pointless for now."""


class SiteState(Enum):
    """Whether prompts are sent to a site."""

    AVAILABLE = "Prompts are sent to it."
    COOLING_DOWN = "It has failed: nothing is sent to it for some time."
    PROBING = "That time is over and one prompt was sent to it: the others wait for its outcome."
    DISABLED = "It has failed in a way that lasts: nothing is sent to it any more."


class Availability:
    """Whether prompts are sent to a site, judged by the answers and failures of those before.

    A failure begins a cool-down, which lasts as long as the site states, or twice as long as the
    last one. Then one prompt probes the site. Many prompts that were in flight when it failed are
    one failure: those sent before the last cool-down began are ignored, unless they state a wait.

    The probe has succeeded with the first text of its answer. If the site had rejected requests, it
    has succeeded after two round trips already, because by then another rejection would be known;
    from there on the site's rate limiter decides how much is sent. A cool-down without a stated end
    is over as soon as an answer begins to a prompt that was sent after the one that failed: a stray
    500 in a hundred answers must not halt a batch each time.

    Attributes:
        state: the state.
        until: clock time at which the cool-down ends, or the wait for the outcome of the probe.
        epoch: the number of cool-downs so far.
    """

    def __init__(self) -> None:
        self.until: float = -math.inf
        self.epoch: int = 0
        self._failures = 0  # in a row, not counting those that stated a wait
        self._is_stated = False  # whether the site stated the end of the cool-down
        self._failed_sent_at = -math.inf  # clock time at which the prompt was sent that failed
        self._rejection_time = math.inf  # seconds until a probe would be rejected
        self._down_since = math.inf  # clock time, without stated waits; infinite if available
        self._enter(SiteState.AVAILABLE)

    def _enter(self, state: SiteState) -> None:
        """Enter a state; the only place that does."""
        self.state: SiteState = state
        if state is SiteState.AVAILABLE:
            self._down_since = math.inf

    def ready_at(self) -> float:
        """The clock time from which on a prompt may be sent; infinite if that is not known."""
        if self.state is SiteState.AVAILABLE:
            return -math.inf
        return math.inf if self.state is SiteState.DISABLED else self.until

    def is_pointless(self, now: float) -> bool:
        """Whether waiting for the site is pointless for now."""
        if self.state is SiteState.COOLING_DOWN and self.until - now > LONG_WAIT:
            return True
        return self.state is SiteState.DISABLED or now - self._down_since >= LONG_OUTAGE

    def begin_run(self, now: float) -> None:
        """A batch begins, which has not waited for the site yet."""
        if self._down_since < math.inf:
            self._down_since = now

    def record_sent(self, now: float) -> None:
        """A prompt is sent to the site, which was ready for it."""
        if self.state is SiteState.PROBING:
            self._enter(SiteState.AVAILABLE)  # the probe was not rejected
        elif self.state is SiteState.COOLING_DOWN:
            self.until = now + 2 * self._rejection_time
            self._enter(SiteState.PROBING)

    def record_chunk(self, sent_at: float) -> None:
        """The site has sent text for a prompt that was sent at this clock time."""
        is_news = sent_at > self._failed_sent_at and not self._is_stated
        if self.state is SiteState.PROBING or (self.state is SiteState.COOLING_DOWN and is_news):
            self._enter(SiteState.AVAILABLE)

    def record_answer(self) -> None:
        """The site has answered a prompt completely."""
        self._failures = 0

    def record_abandoned(self, epoch: int) -> None:
        """Nobody waits for the outcome of a prompt that was sent in this epoch."""
        if self.state is SiteState.PROBING and epoch == self.epoch:
            self.until = -math.inf  # the next prompt is the probe
            self._enter(SiteState.COOLING_DOWN)

    def record_failure(
        self, epoch: int, sent_at: float, now: float, error: APIError, stated: float | None
    ) -> None:
        """The site has failed to answer a prompt.

        Args:
            epoch: that of the site when the prompt was sent.
            sent_at: clock time at which it was sent.
            now: clock time.
            error: the failure.
            stated: seconds that the site asks to wait, or ``None``.
        """
        if self.state is SiteState.DISABLED:
            return
        if error.fatal and not error.is_text:
            self._enter(SiteState.DISABLED)
        elif epoch == self.epoch or stated is not None:
            took = max(now - sent_at, MIN_REJECTION_TIME)
            self._rejection_time = took if error.rejection else math.inf
            self._failed_sent_at = sent_at
            self._cool_down(now, stated)

    def _cool_down(self, now: float, stated: float | None) -> None:
        seconds = stated
        if seconds is None:
            seconds = min(MAX_COOL_DOWN, MIN_COOL_DOWN * 2.0 ** min(self._failures, 30))
            self._failures += 1
        before = self.until if self.state is SiteState.COOLING_DOWN else now
        self.until = max(now + seconds, before)
        self._is_stated = stated is not None
        self.epoch += 1
        self._down_since = min(self._down_since, now) if stated is None else self.until
        self._enter(SiteState.COOLING_DOWN)
