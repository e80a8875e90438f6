"""``SiteSelector``: which of several sites gets the next prompt, and when."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from .._call import MAX_SINGLE_WAIT, Call
from .._forks import renew_after_fork
from .._prompt_rejections import Cause
from .._rate_limiter import RateLimiter
from .._slot_queue import SlotQueue, allow_more_time, not_sent, run_again_in
from ..errors import APIConnectionError, APIError, RateLimitError
from .availability import LONG_OUTAGE, Availability, SiteState

_NEWEST_SHARE: Final = 0.3
"""The weight of the last answer in the average duration of a site's answers."""
_ROUNDED_UP: Final = 1.0
"""Seconds. ``Retry-After`` has whole seconds, so that 1 mostly stands for a part of one: it counts
as if nothing had been stated, and the site's rate limiter finds the true wait."""


class _Site:
    """One of the sites, as far as choosing among them is concerned."""

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter = limiter
        self.availability = Availability()
        self.in_flight = 0  # prompts
        self.duration: float | None = None  # seconds of its last answers, on average
        self.last_error: APIError | None = None

    def ready_at(self) -> float:
        return max(self.availability.ready_at(), self.limiter.slot)

    def earliest(self) -> float:
        """The clock time before which it surely takes no prompt."""
        is_probing = self.availability.state is SiteState.PROBING
        available_at = -math.inf if is_probing else self.availability.ready_at()
        return max(available_at, self.limiter.earliest)

    @property
    def is_disabled(self) -> bool:
        return self.availability.state is SiteState.DISABLED

    @property
    def is_slowed_down(self) -> bool:
        return self.availability.state is not SiteState.AVAILABLE or self.limiter.is_reduced


class Visit:
    """One request of a prompt to one of the sites.

    Attributes:
        site: the position of the site; ``None`` before it is chosen.
        number: of the slot at the site's rate limiter.
    """

    def __init__(self) -> None:
        self.site: int | None = None
        self.number: int = 0
        self.epoch: int = 0
        self.sent_at: float = 0.0


class SiteSelector(SlotQueue[Visit]):
    """Chooses the site for each request: the one that can take it soonest.

    All calls wait in one queue, not in those of the sites' rate limiters, so that none is bound to
    a slow site while another becomes free. Among sites that are ready, the next is the one where
    the answer can be expected first, judged by its prompts in flight and by how long its last
    answers took. Whether a site is asked at all is decided by its `Availability`: after a
    cool-down only one prompt is sent to it until the outcome is known.

    A rejection that states no wait, or at most a second, is left to the site's rate limiter, which
    slows down the requests to the site and probes it. So the limits of all sites add up.

    The lock also guards the sites. It is held while a rate limiter's lock is acquired, in this
    order only. A visit may be abandoned by the garbage collector, at any moment of any thread;
    therefore `end` takes no lock.

    Args:
        limiters: those of the sites.
        clock: as for the rate limiters.
        wait: as for the rate limiters.
    """

    def __init__(
        self,
        limiters: Sequence[RateLimiter],
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        super().__init__(clock, wait)
        self._sites = [_Site(limiter) for limiter in limiters]
        limits = [limiter.max_requests_per_minute for limiter in limiters]
        known = [limit for limit in limits if limit is not None]
        self.max_requests_per_minute = sum(known) if len(known) == len(limits) else None
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        super().after_fork()
        self._ended: deque[Visit] = deque()
        for site in self._sites:
            site.in_flight = 0
            site.availability.record_abandoned(site.availability.epoch)

    def __getstate__(self) -> dict[str, Any]:
        return {"limiters": [site.limiter for site in self._sites]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    # --- batches --------------------------------------------------------------------------------

    @property
    def exhausted(self) -> str | None:
        now = self._clock()
        for site in self._sites:
            if not site.availability.is_pointless(now) and site.limiter.exhausted is None:
                return None
        wait = self._soonest() - now
        again = run_again_in(wait) if LONG_OUTAGE < wait < math.inf else ""
        return f"no site accepts prompts now{again}. {self._reasons()}"

    def begin_run(self) -> None:
        for site in self._sites:
            site.limiter.begin_run()
        with self._lock:
            now = self._clock()
            for site in self._sites:
                site.availability.begin_run(now)

    # --- choosing -------------------------------------------------------------------------------

    def acquire(
        self, call: Call, visit: Visit, avoided: Sequence[int], preferred: int | None = None
    ) -> None:
        """Wait until a site can take the next attempt of a call; send it there at once.

        Args:
            call: the call.
            visit: gets the site and the number of its slot.
            avoided: how often each site has failed this prompt.
            preferred: the site that a conversation should stay with.

        Raises:
            StreamInterruptedError: the call was cancelled.
            APITimeoutError: its deadline has passed.
            RateLimitError, APIConnectionError: no site can take it before its deadline.
            APIError: all sites have failed for good.
        """
        if preferred is not None:
            wait = self._sites[preferred].ready_at() - self._clock()
            if 0 < wait <= min(MAX_SINGLE_WAIT, call.deadline - self._clock()):
                call.cancel_token.sleep(wait)

        def take(now: float, delayed: bool) -> Visit | None:
            def order(site: int) -> tuple[int, bool, float]:
                return avoided[site], site != preferred, self._expected_duration(site)

            for site in sorted(self._ready(now), key=order):
                number = self._sites[site].limiter.try_acquire(delayed=delayed)
                if number is not None:
                    self._send(visit, site, number, now)
                    return visit
            return None

        self._acquire(call, take)

    def is_better_ready(self, failed: int, failures: Sequence[int]) -> bool:
        """Whether another site, which has failed a prompt less often, can take it now.

        Args:
            failed: the site that has just failed the prompt.
            failures: how often each site has.
        """
        with self._lock:
            ready = self._ready(self._clock())
            return any(failures[site] < failures[failed] for site in ready)

    def _ready(self, now: float) -> list[int]:
        self._settle()
        return [index for index, site in enumerate(self._sites) if site.ready_at() <= now]

    def _expected_duration(self, index: int) -> float:
        known = [site.duration for site in self._sites if site.duration is not None]
        site = self._sites[index]
        duration = min(known, default=1.0) if site.duration is None else site.duration
        return (site.in_flight + 1) * duration

    def _send(self, visit: Visit, index: int, number: int, now: float) -> None:
        site = self._sites[index]
        # The visit first: if Ctrl-C interrupts this, its end is noticed all the same.
        visit.number, visit.epoch, visit.sent_at = number, site.availability.epoch, now
        visit.site = index
        site.in_flight += 1
        site.availability.record_sent(now)

    def _settle(self) -> None:
        """Take note of the visits that have ended, whatever their outcome."""
        while self._ended:
            visit = self._ended.popleft()
            if visit.site is not None:
                site = self._sites[visit.site]
                site.in_flight = max(0, site.in_flight - 1)  # after a fork, it is the parent's
                site.availability.record_abandoned(visit.epoch)

    # --- outcomes -------------------------------------------------------------------------------

    def record_chunk(self, visit: Visit) -> None:
        """The site has sent the first text of the answer."""
        with self._lock:
            self._site_of(visit).availability.record_chunk(visit.sent_at)

    def record_answer(self, visit: Visit) -> None:
        """The site has answered completely."""
        with self._lock:
            site = self._site_of(visit)
            site.availability.record_answer()
            duration = self._clock() - visit.sent_at
            if site.duration is not None:
                duration = _NEWEST_SHARE * duration + (1 - _NEWEST_SHARE) * site.duration
            site.duration = duration

    def record_failure(self, visit: Visit, error: APIError, cause: Cause) -> None:
        """The site, not the prompt, is why there is no answer.

        Args:
            visit: the request.
            error: how the site failed.
            cause: if it is a rejection, what it is evidence of.
        """
        wait = error.stated_wait
        stated = None if wait in (0.0, _ROUNDED_UP) else wait
        with self._lock:
            site = self._site_of(visit)
            site.last_error = error
            if error.rejection and (cause is not Cause.LIMIT or stated is None):
                site.availability.record_abandoned(visit.epoch)
            else:
                site.availability.record_failure(
                    visit.epoch, visit.sent_at, self._clock(), error, stated
                )

    def end(self, visit: Visit) -> None:
        """The visit is over; to be called once for each, whatever its outcome. Takes no lock."""
        self._ended.append(visit)

    def _site_of(self, visit: Visit) -> _Site:
        assert visit.site is not None
        return self._sites[visit.site]

    # --- waiting --------------------------------------------------------------------------------

    def _slot_time(self, now: float) -> float:
        self._settle()
        return min(site.ready_at() for site in self._sites)

    def _latest(self, call: Call) -> float:
        usable = [site for site in self._sites if not site.is_disabled]
        if not usable:
            return -math.inf
        latest = min(call.deadline, call.last_attempt_before)
        if all(site.is_slowed_down for site in usable):
            latest = min(latest, call.waits_for_rejections_until)
        return latest

    def _earliest(self, ahead: int, now: float) -> float:
        return self._soonest()

    def _soonest(self) -> float:
        return min(site.earliest() for site in self._sites)

    def _too_late_error(self, call: Call, now: float) -> APIError:
        if all(site.is_disabled for site in self._sites):
            return APIError(f"No site can answer. {self._reasons()}", fatal=True)
        errors = [site.last_error for site in self._sites if not site.is_disabled]
        limited = any(error is None or error.rejection for error in errors)
        kind = RateLimitError if limited else APIConnectionError
        wait = max(0.0, self._soonest() - now)
        return kind(
            f"No site can take this prompt before its deadline, so {not_sent(call)}. "
            f"{self._reasons()} {allow_more_time(wait)}",
            retry_after=wait,
            retryable=False,
        )

    def _reasons(self) -> str:
        """The last failure of each site, which names it."""
        return " ".join(site.last_error.message for site in self._sites if site.last_error)
