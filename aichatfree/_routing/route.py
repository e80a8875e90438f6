"""``Route``: the way of one prompt from site to site."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

import tenacity

from .._call import Call
from .._prompt_rejections import PromptRejections
from .._prompt_sender import Affinity, Question
from .._requester import Requester
from ..errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    BadRequestError,
    EmptyReplyError,
    RateLimitError,
    ReplyTooLargeError,
)
from ..retry import MakeRetrying, RetryPolicy, stop_with_call
from .selector import SiteSelector, Visit

_OF_THE_PROMPT: Final = (BadRequestError, EmptyReplyError, ReplyTooLargeError)
"""Errors that another site would raise too, unless they are fatal."""


class Route:
    """The attempts of one call, each at the site that can take it soonest.

    After a failure that is the site's, the next attempt follows at once if another site is ready,
    and otherwise as soon as one is; `SiteSelector` waits for it. All other failures are treated as
    the retry policy says. The policy's ``max_attempts`` counts for each site, all taken together;
    in a batch, rejections and failed connections do not count.

    Args:
        requesters: those of the sites.
        selector: chooses among them.
        question: what is asked.
        call: the call.

    Raises:
        TypeError, ValueError: the question cannot be sent to one of the sites.
    """

    def __init__(
        self,
        requesters: Sequence[Requester],
        selector: SiteSelector,
        question: Question,
        call: Call,
    ) -> None:
        self._requesters = requesters
        self._sends = [requester.prepare(question, call) for requester in requesters]
        self._selector = selector
        self._call = call
        self._in_batch = question.in_batch
        self._affinity = question.affinity or Affinity()
        self._rejections = [PromptRejections() for _ in requesters]
        self._failures = [0] * len(requesters)
        self._counted = 0  # failures that use up the policy's attempts
        self._failed_site: int | None = None  # if the last attempt ended with a site's failure

    def attempt(self) -> Iterator[str]:
        """Send the prompt to one site and yield the chunks of its answer."""
        self._failed_site = None
        visit = Visit()
        try:
            self._selector.acquire(self._call, visit, self._failures, self._affinity.site)
            yield from self._read(visit)
            self._selector.record_answer(visit)
            self._affinity.site = visit.site
        except APIError as error:
            if visit.site is not None:
                self._record(visit.site, visit, error)
            raise
        finally:
            self._selector.end(visit)

    def retrying(self, make_retrying: MakeRetrying) -> MakeRetrying:
        """A policy for retries, except that prompts move to another site as described above."""

        def make(policy: RetryPolicy, call: Call) -> tenacity.Retrying:
            own = make_retrying(policy, call)
            too_late = stop_with_call(call, min(call.deadline, call.last_attempt_before))
            most = policy.max_attempts * len(self._requesters)

            def stop(state: tenacity.RetryCallState) -> bool:
                if self._failed_site is None:
                    return own.stop(state)
                return self._counted >= most or too_late(state)

            return own.copy(
                retry=lambda state: self._failed_site is not None or own.retry(state),
                wait=lambda state: own.wait(state) if self._failed_site is None else self._wait(),
                stop=stop,
            )

        return make

    def _read(self, visit: Visit) -> Iterator[str]:
        assert visit.site is not None
        self._call.rejections = self._rejections[visit.site]
        is_first = True
        for chunk in self._sends[visit.site](visit.number):
            if is_first:
                self._selector.record_chunk(visit)
            is_first = False
            yield chunk

    def _record(self, site: int, visit: Visit, error: APIError) -> None:
        """Note a failure, and decide whether it is the site's."""
        error.message = f"{self._call.site}: {error.message}"
        error.args = (error.message, *error.args[1:])
        self._failures[site] += 1
        if self._is_of_the_site(error):
            self._failed_site = site
            certain = error.rejection or _is_failed_connection(error)
            self._counted += not (self._in_batch and certain)
            self._selector.record_failure(visit, error, self._call.rejections.cause)

    def _is_of_the_site(self, error: APIError) -> bool:
        call = self._call
        if call.cancel_token.is_set():
            return False
        if time.monotonic() >= call.deadline and call.first_byte_at is not None:
            return False  # it was answering
        if isinstance(error, RateLimitError) and not error.rejection:
            return False  # it rejected this prompt alone, again and again
        return error.fatal or not isinstance(error, _OF_THE_PROMPT)

    def _wait(self) -> float:
        """Seconds before the next attempt, beside what the selector waits for a site."""
        assert self._failed_site is not None
        if self._selector.is_better_ready(self._failed_site, self._failures):
            return 0.0
        return self._rejections[self._failed_site].wait


def _is_failed_connection(error: APIError) -> bool:
    return isinstance(error, APIConnectionError) and not isinstance(error, APITimeoutError)
