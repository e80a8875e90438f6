"""Which failed requests are retried, when, and what the error says if all attempts fail."""

from __future__ import annotations

import dataclasses
import pickle
import time
from email.utils import formatdate
from typing import Any

import pytest
import requests
import tenacity

from aichatfree import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    StreamInterruptedError,
    Timeout,
)
from aichatfree._call import MAX_SINGLE_WAIT
from aichatfree.testing import Answer, FakeSite, Raw, Request
from helpers import AT_ONCE, FAST, HANG, SHORT, UNREACHABLE, ClientFor

GEMINI_QUOTA = (
    '{"error":{"code":"Error","message":"[GoogleGenerativeAI Error]: Error fetching from  '
    '[429 Too Many Requests] ... [{\\"@type\\":\\"RetryInfo\\",\\"retryDelay\\":\\"0.3s\\"}]"}}'
)
GEMINI_DAY = (
    '{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"violations":'
    '[{"quotaId":"GenerateRequestsPerDayPerProject-FreeTier","quotaValue":"500"}]}]}}'
)
UPSTREAM_KEY = '{"error":{"message":"bad key","code":"invalid_api_key"}}'

RETRYABLE: dict[str, Answer | Raw] = {
    "connection closed before the reply": Raw(b""),
    "connection reset before the reply": Raw(b"", end="reset"),
    "half a status line": Raw(b"HTTP/1.1 2", end="cut"),
    "408": Answer(status=408, body=""),
    "429": Answer(status=429, body=""),
    "500 with a quota in it": Answer(status=500, body=GEMINI_QUOTA),
    "500 with quota words": Answer(status=500, body="Quota exceeded"),
    "200 with the quota sentence": Answer("当前地区当日额度已消耗完"),
    "500": Answer(status=500, body=""),
    "502 with a web page": Answer(status=502, body="<html>bad</html>", content_type="text/html"),
    "503": Answer(status=503, body=""),
    "529": Answer(status=529, body=""),
    "a failure tail alone": Answer(end="tail"),
    "a failure tail at the end": Answer("half", end="tail"),
    "a cut in the middle": Answer("half", end="cut"),
    "a reset in the middle": Answer("half", gap=0.05, end="reset"),
    "a short Content-Length body": Answer("half", framing="length", end="cut"),
}

NOT_RETRYABLE = {
    "400": (Answer(status=400, body="No input text."), BadRequestError),
    "401": (Answer(status=401, body="Invalid signature."), AuthenticationError),
    "401 upstream": (Answer(status=401, body=UPSTREAM_KEY), AuthenticationError),
    "403": (Answer(status=403, body="<html>"), PermissionDeniedError),
    "404": (Answer(status=404, body="Not found"), NotFoundError),
    "405": (Answer(status=405, body=""), APIStatusError),
    "413": (Answer(status=413, body=""), BadRequestError),
    "a web page": (Answer("<html>hi</html>", content_type="text/html"), ProtocolError),
    "a redirect": (
        Answer(status=307, body="", headers={"Location": "http://127.0.0.1:1/x"}),
        ProtocolError,
    ),
}


@pytest.mark.parametrize("kind", RETRYABLE)
def test_a_retryable_failure_is_retried(client_for: ClientFor, kind: str) -> None:
    """After a temporary failure the request is sent again, and its answer is complete."""
    with FakeSite([RETRYABLE[kind], "complete"]) as site:
        reply = client_for(site.url).generate("Hi")
        assert (reply.text, reply.attempts) == ("complete", 2)


@pytest.mark.parametrize("kind", NOT_RETRYABLE)
def test_a_permanent_failure_is_not_retried(client_for: ClientFor, kind: str) -> None:
    """A failure that another attempt cannot change is raised after one request."""
    answer, error = NOT_RETRYABLE[kind]
    with FakeSite([answer, "complete"]) as site:
        with pytest.raises(error):
            client_for(site.url).generate("Hi")
        assert len(site.requests) == 1


def test_each_attempt_has_a_new_signature(client_for: ClientFor) -> None:
    """Each attempt is signed with a different time, so that no site rejects it as a replay."""
    with FakeSite([Answer(status=500, body="")] * 2 + ["complete"], verify=True) as site:
        client_for(site.url, retry=RetryPolicy(initial_wait=0.01)).generate("Hi")
        times = [request.json["time"] for request in site.requests]
        assert len(set(times)) == len(times) == 3


def test_the_number_of_attempts_is_limited_and_stated(client_for: ClientFor) -> None:
    """After max_attempts requests the last error is raised with the number of attempts."""
    with FakeSite([Answer(status=500, body="")]) as site:
        with pytest.raises(ServerError, match=r"5 attempts") as caught:
            client_for(site.url).generate("Hi")
        assert caught.value.attempts == len(site.requests) == 5


def test_without_retries_one_request_is_sent(client_for: ClientFor) -> None:
    """With retry=None on the client or on the call, a failed request is not retried."""
    with FakeSite([Answer(status=500, body="")]) as site:
        with pytest.raises(ServerError):
            client_for(site.url, retry=None).generate("Hi")
        with pytest.raises(ServerError):
            client_for(site.url).generate("Hi", retry=None)
        assert len(site.requests) == 2


def test_without_retries_a_call_does_not_wait_for_a_site_that_rejects_requests(
    client_for: ClientFor,
) -> None:
    """With retry=None a call that the rate limiter delays for an hour fails at once, not sent."""
    later = Answer(status=429, body="Come back later.", headers={"Retry-After": "3600"})
    with FakeSite([later]) as site:
        client = client_for(site.url, retry=None)
        requests = -1
        while len(site.requests) > requests:  # until the limiter believes the site
            requests = len(site.requests)
            started = time.monotonic()
            with pytest.raises(RateLimitError, match=r"Come back later\.") as caught:
                client.generate("Hi")
            assert time.monotonic() - started < MAX_SINGLE_WAIT + AT_ONCE
    assert not caught.value.retryable
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > MAX_SINGLE_WAIT
    assert requests <= 6


def test_without_retries_a_call_waits_for_a_configured_limit(client_for: ClientFor) -> None:
    """With retry=None and max_requests_per_minute, calls wait for their slot as usual."""
    with FakeSite(["fine"]) as site:
        client = client_for(site.url, retry=None, max_requests_per_minute=24)
        started = time.monotonic()
        assert [client.generate("Hi").text for _ in range(2)] == ["fine"] * 2
    assert time.monotonic() - started > MAX_SINGLE_WAIT


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "1"},
        {
            "Retry-After": formatdate(1_000_001, usegmt=True),
            "Date": formatdate(1_000_000, usegmt=True),
        },
    ],
    ids=["seconds", "date"],
)
def test_retry_after_is_respected(client_for: ClientFor, headers: dict[str, str]) -> None:
    """The next attempt is sent after the time in Retry-After, and not much later."""
    with FakeSite([Answer(status=429, body="", headers=headers), "complete"]) as site:
        client_for(site.url, retry=RetryPolicy(initial_wait=0.01, jitter=0.2)).generate("Hi")
        first, second = (request.received for request in site.requests)
        assert 1.0 <= second - first < 1.0 + AT_ONCE


def test_geminis_retry_delay_is_respected(client_for: ClientFor) -> None:
    """A retryDelay in the body of a 500 that means 429 has the effect of Retry-After."""
    with FakeSite([Answer(status=500, body=GEMINI_QUOTA), "complete"]) as site:
        client_for(site.url).generate("Hi")
        first, second = (request.received for request in site.requests)
        assert 0.3 <= second - first < 0.3 + AT_ONCE


@pytest.mark.parametrize("retry", [RetryPolicy(max_elapsed=5), None])
def test_a_wait_that_exceeds_the_deadline_is_not_started(client_for: ClientFor, retry: Any) -> None:
    """If Retry-After exceeds the time that is left, the error is raised at once and states it."""
    with FakeSite([Answer(status=429, body="", headers={"Retry-After": "60"})]) as site:
        began = time.monotonic()
        with pytest.raises(RateLimitError) as caught:
            client_for(site.url, retry=retry).generate("Hi")
        assert time.monotonic() - began < AT_ONCE
        assert caught.value.retry_after == 60


def test_waits_double_up_to_a_limit() -> None:
    """If the site states no wait, it doubles with each attempt from initial_wait to max_wait."""
    policy = RetryPolicy(initial_wait=1, max_wait=5, jitter=0)
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    waits = []
    for attempt in (1, 2, 3, 4, 5000):
        state.attempt_number = attempt
        state.set_exception((ServerError, ServerError("x"), None))
        waits.append(policy.wait(state))
    assert waits == [1, 2, 4, 5, 5]


def test_a_tenacity_object_replaces_the_policy(client_for: ClientFor) -> None:
    """A tenacity object decides about retries, and the error raised is ours, not tenacity's."""
    retry = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2), retry=tenacity.retry_if_exception_type(NotFoundError)
    )
    with FakeSite([Answer(status=404, body="")]) as site:
        with pytest.raises(NotFoundError):
            client_for(site.url, retry=retry).generate("Hi")
        assert len(site.requests) == 2


def test_the_longest_partial_text_is_kept(client_for: ClientFor) -> None:
    """If all attempts are cut off, partial_text is the longest text of any attempt."""
    answers: list[Answer | Raw] = [
        Answer("a long half", end="cut"),
        Answer("short", end="cut"),
        Raw(b""),
    ]
    with FakeSite(answers) as site:
        with pytest.raises(APIError) as caught:
            client_for(site.url).generate("Hi")
        assert caught.value.partial_text == "a long half"
        assert len(site.requests) == 5


def test_a_policy_pickles() -> None:
    """Pickling a policy gives an equal policy, so that it can be sent to a worker."""
    assert pickle.loads(pickle.dumps(FAST)) == FAST


@pytest.mark.parametrize(
    "bad",
    [
        {"max_attempts": 0},
        {"max_elapsed": -1},
        {"initial_wait": -0.1},
        {"max_wait": float("nan")},
        {"jitter": -1},
    ],
)
def test_a_policy_out_of_range_is_rejected(bad: dict[str, Any]) -> None:
    """A policy with a count below 1 or a negative time is a ValueError that names it."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        RetryPolicy(**bad)


@pytest.mark.parametrize("bad", [3, True, "yes", tenacity.AsyncRetrying()])
def test_retry_of_a_wrong_type_is_rejected(client_for: ClientFor, bad: Any) -> None:
    """retry= other than a policy, a blocking tenacity object or None is a TypeError."""
    with pytest.raises(TypeError, match="retry="):
        client_for(UNREACHABLE, retry=bad)


def test_an_idle_connection_closed_by_the_site_causes_no_failure(
    client_for: ClientFor,
) -> None:
    """If the site has closed an idle connection, the next request succeeds without a retry."""
    with FakeSite(["a", "b"]) as site:
        client = client_for(site.url, retry=None)
        client.generate("Hi")
        site.drop_connections()
        time.sleep(SHORT)
        assert client.generate("Hi").text == "b"


def test_the_text_of_failed_attempts_is_discarded(client_for: ClientFor) -> None:
    """The text of a reply is that of the successful attempt, without parts of failed ones."""
    seen: list[int] = []

    def answers(request: Request) -> Answer:
        seen.append(1)
        return Answer("first half", end="cut") if len(seen) < 3 else Answer("all", " of it")

    with FakeSite([answers]) as site:
        assert client_for(site.url).generate("Hi").text == "all of it"


def test_a_callback_of_tenacity_does_not_replace_the_error(client_for: ClientFor) -> None:
    """A tenacity object's retry_error_callback does not make a reply of an incomplete answer."""
    retry = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(1), retry_error_callback=lambda state: "made up"
    )
    with FakeSite([Answer("half", end="cut")]) as site, pytest.raises(StreamInterruptedError):
        client_for(site.url, retry=retry).generate("Hi")


def test_a_quota_that_begins_again_tomorrow_is_not_retried(client_for: ClientFor) -> None:
    """A call fails at once if the site says that its quota for the day is used up."""
    with FakeSite([Answer(status=429, body=GEMINI_DAY)]) as site:
        with pytest.raises(RateLimitError, match="UTC"):
            client_for(site.url, retry=RetryPolicy()).generate("Hi")
        assert len(site.requests) == 1


def test_the_total_timeout_also_limits_tenacity(client_for: ClientFor) -> None:
    """A tenacity object without a stop condition ends with the call's total timeout."""
    retry = tenacity.Retrying(wait=tenacity.wait_fixed(SHORT))
    with FakeSite([Answer(status=500, body="")]) as site:
        began = time.monotonic()
        with pytest.raises(ServerError):
            client_for(site.url, retry=retry).generate("Hi", timeout=Timeout(total=3 * SHORT))
        assert time.monotonic() - began < AT_ONCE


def test_the_error_of_the_total_timeout_says_why_the_attempt_before_failed(
    client_for: ClientFor,
) -> None:
    """If a call's time ends during a retry, its error names the failure of the last attempt."""
    says_why = pytest.raises(APITimeoutError, match=r"its last attempt failed: 500\.")
    with FakeSite([Answer(status=500), Answer(delay=HANG)]) as site, says_why:
        client_for(site.url, retry=FAST).generate("Hi", timeout=Timeout(total=3 * SHORT))


def test_a_slot_of_the_rate_limiter_beyond_the_deadline_is_not_waited_for(
    client_for: ClientFor,
) -> None:
    """If the rate limiter has no slot before the deadline, the call fails and sends nothing."""
    with FakeSite("Hello") as site:
        client = client_for(site.url, max_requests_per_minute=1, retry=RetryPolicy(max_elapsed=5))
        client.generate("Hi")
        began = time.monotonic()
        with pytest.raises(RateLimitError, match="not sent") as caught:
            client.generate("Hi")
        assert time.monotonic() - began < AT_ONCE
        assert caught.value.attempts == 0
        assert len(site.requests) == 1


def test_the_last_error_is_raised_and_not_the_first(client_for: ClientFor) -> None:
    """If attempts fail in different ways, the error raised is that of the last attempt."""
    with FakeSite([Raw(end="stall"), Answer("Hel", end="cut")]) as site:
        client = client_for(
            site.url, timeout=Timeout(read=SHORT), retry=dataclasses.replace(FAST, max_attempts=2)
        )
        with pytest.raises(StreamInterruptedError, match="2 attempts"):
            client.generate("Hi")


def test_an_error_being_handled_does_not_change_the_next_one(client_for: ClientFor) -> None:
    """A call in an `except` block raises its own error, and does not change the handled one."""
    elsewhere = client_for("http://no-such-host.invalid", retry=None)
    with FakeSite(Raw(end="reset")) as site:
        try:
            elsewhere.generate("Hi")
        except APIConnectionError:
            with pytest.raises(APIConnectionError, match="broke before an answer"):
                client_for(site.url, retry=None).generate("Hi")
        try:
            raise requests.HTTPError("of the user's own", request=requests.PreparedRequest())
        except requests.HTTPError as error:
            with pytest.raises(APIConnectionError):
                client_for(site.url, retry=None).generate("Hi")
            assert error.request is not None  # noqa: PT017


def test_a_tenacity_rule_about_results_is_not_applied(client_for: ClientFor) -> None:
    """A tenacity object decides only about failures: no answer is retried for its text."""
    attempts: list[int] = []
    own = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda text: not text) | tenacity.retry_if_exception_type(),
        stop=tenacity.stop_after_attempt(4),
        before=lambda state: attempts.append(state.attempt_number),
    )
    with FakeSite([Raw(end="reset"), "Hello"]) as site:
        assert client_for(site.url, retry=own).generate("Hi").text == "Hello"
        assert len(site.requests) == 2
    assert attempts == [1, 2]
