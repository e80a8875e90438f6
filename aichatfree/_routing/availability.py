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
    one failure: those sent before the last cool-down began are ignored.

    Attributes:
        state: the state.
        until: clock time at which the cool-down ends.
        error: the last failure that counted, or ``None``.
        epoch: the number of cool-downs so far.
    """

    def __init__(self) -> None:
        self.until: float = -math.inf
        self.error: APIError | None = None
        self.epoch: int = 0
        self._failures = 0  # in a row, not counting those that stated a wait
        self._is_stated = False  # whether the site stated the end of the cool-down
        self._down_since = math.inf  # clock time
        self._enter(SiteState.AVAILABLE)

    def _enter(self, state: SiteState) -> None:
        """Enter a state; the only place that does."""
        self.state: SiteState = state

    def ready_at(self) -> float:
        """The clock time from which on a prompt may be sent; infinite if that is not known."""
        if self.state is SiteState.AVAILABLE:
            return -math.inf
        return self.until if self.state is SiteState.COOLING_DOWN else math.inf

    def is_pointless(self, now: float) -> bool:
        """Whether waiting for the site is pointless for now."""
        if self.state is SiteState.COOLING_DOWN and self.until - now > LONG_WAIT:
            return True
        return self.state is SiteState.DISABLED or now - self._down_since >= LONG_OUTAGE

    def begin_run(self, now: float) -> None:
        """A batch begins, which has not waited for the site yet."""
        self._down_since = max(self._down_since, now) if self._down_since < math.inf else math.inf

    def record_sent(self) -> None:
        """A prompt is sent to the site, which was ready for it."""
        if self.state is SiteState.COOLING_DOWN:
            self._enter(SiteState.PROBING)

    def record_accepted(self) -> None:
        """The site has begun to respond to a prompt; after a rejection, that is all it takes."""
        if self.state is SiteState.PROBING and self.error is not None and self.error.rejection:
            self.record_chunk()

    def record_chunk(self) -> None:
        """The site has sent text, which shows that it works now, unless it stated a wait."""
        if self.state is SiteState.PROBING or (
            self.state is SiteState.COOLING_DOWN and not self._is_stated
        ):
            self._down_since = math.inf
            self._enter(SiteState.AVAILABLE)

    def record_answer(self) -> None:
        """The site has answered a prompt completely."""
        self._failures = 0
        self.record_chunk()

    def record_abandoned(self, epoch: int) -> None:
        """Nobody waits for the outcome of a prompt that was sent in this epoch."""
        if self.state is SiteState.PROBING and epoch == self.epoch:
            self._enter(SiteState.COOLING_DOWN)  # which is over: the next prompt is the probe

    def record_failure(self, epoch: int, now: float, error: APIError, stated: float | None) -> None:
        """The site has failed to answer a prompt.

        Args:
            epoch: when the prompt was sent.
            now: clock time.
            error: the failure.
            stated: seconds that the site asks to wait, or ``None``.
        """
        if self.state is SiteState.DISABLED:
            return
        if error.fatal:
            self.error = error
            self._enter(SiteState.DISABLED)
        elif epoch == self.epoch:
            self.error = error
            self._cool_down(now, stated)
        elif stated is not None and self.state is SiteState.COOLING_DOWN:
            self.until, self._is_stated = max(self.until, now + stated), True

    def _cool_down(self, now: float, stated: float | None) -> None:
        if stated is None:
            stated_or_doubled = min(MAX_COOL_DOWN, MIN_COOL_DOWN * 2.0 ** min(self._failures, 30))
            self._failures += 1
        else:
            stated_or_doubled = stated
        self._is_stated = stated is not None
        self.epoch += 1
        self.until = now + stated_or_doubled
        self._down_since = min(self._down_since, now)
        self._enter(SiteState.COOLING_DOWN)
