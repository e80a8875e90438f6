from __future__ import annotations

import dataclasses
import pickle
import time
from email.utils import formatdate
from typing import Any

import pytest
import requests
import tenacity
import urllib3

from aichatfree import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    EmptyReplyError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    StreamInterruptedError,
    Timeout,
)
from aichatfree.testing import Answer, FakeSite, Raw, Request
from helpers import FAST, ClientFor

GEMINI_QUOTA = (
    '{"error":{"code":"Error","message":"[GoogleGenerativeAI Error]: Error fetching from  '
    '[429 Too Many Requests] ... [{\\"@type\\":\\"RetryInfo\\",\\"retryDelay\\":\\"0.3s\\"}]"}}'
)
UPSTREAM_KEY = '{"error":{"message":"bad key","code":"invalid_api_key"}}'

WORTH_ANOTHER_TRY: dict[str, Answer | Raw] = {
    "connection closed before the reply": Raw(b""),
    "connection reset before the reply": Raw(b"", end="reset"),
    "half a status line": Raw(b"HTTP/1.1 2", end="cut"),
    "408": Answer(status=408, body=""),
    "429": Answer(status=429, body=""),
    "500 with a quota in it": Answer(status=500, body=GEMINI_QUOTA),
    "500 with the seed's words": Answer(status=500, body="Quota exceeded"),
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

FINAL = {
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
    "nothing at all": (Answer(), EmptyReplyError),
}


@pytest.mark.parametrize("kind", WORTH_ANOTHER_TRY)
def test_generate_sends_again_what_may_succeed(client_for: ClientFor, kind: str) -> None:
    """A failure that may pass is followed by another attempt, and the answer is whole."""
    with FakeSite([WORTH_ANOTHER_TRY[kind], "whole"]) as site:
        reply = client_for(site.url).generate("Hi")
        assert (reply.text, reply.attempts) == ("whole", 2)


@pytest.mark.parametrize("kind", FINAL)
def test_generate_does_not_repeat_what_cannot_succeed(client_for: ClientFor, kind: str) -> None:
    """A refusal is told at once, after one request."""
    answer, error = FINAL[kind]
    with FakeSite([answer, "whole"]) as site:
        with pytest.raises(error):
            client_for(site.url).generate("Hi")
        assert len(site.requests) == 1


def test_each_attempt_is_signed_anew(client_for: ClientFor) -> None:
    """No two attempts carry the same time, so that a site that checks it takes the second."""
    with FakeSite([Answer(status=500, body="")] * 2 + ["whole"], verify=True) as site:
        client_for(site.url, retry=RetryPolicy(initial_wait=0.01)).generate("Hi")
        times = [request.json["time"] for request in site.requests]
        assert len(set(times)) == len(times) == 3


def test_attempts_are_bounded_and_counted(client_for: ClientFor) -> None:
    """After max_attempts the last error is raised, and says how many there were."""
    with FakeSite([Answer(status=500, body="")]) as site:
        with pytest.raises(ServerError, match=r"5 attempts") as caught:
            client_for(site.url).generate("Hi")
        assert caught.value.attempts == len(site.requests) == 5


def test_no_retry_means_one_request(client_for: ClientFor) -> None:
    """retry=None on the client or the call sends once."""
    with FakeSite([Answer(status=500, body="")]) as site:
        with pytest.raises(ServerError):
            client_for(site.url, retry=None).generate("Hi")
        with pytest.raises(ServerError):
            client_for(site.url).generate("Hi", retry=None)
        assert len(site.requests) == 2


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
def test_a_wait_that_the_site_names_is_waited_for_in_full(
    client_for: ClientFor, headers: dict[str, str]
) -> None:
    """The next attempt leaves no earlier than Retry-After says, and not much later."""
    with FakeSite([Answer(status=429, body="", headers=headers), "whole"]) as site:
        client_for(site.url, retry=RetryPolicy(initial_wait=0.01, jitter=0.2)).generate("Hi")
        first, second = (request.received for request in site.requests)
        assert 1.0 <= second - first < 2.0


def test_geminis_retry_delay_is_waited_for(client_for: ClientFor) -> None:
    """The delay inside a 500 that means 429 counts like Retry-After."""
    with FakeSite([Answer(status=500, body=GEMINI_QUOTA), "whole"]) as site:
        client_for(site.url).generate("Hi")
        first, second = (request.received for request in site.requests)
        assert 0.3 <= second - first < 1.3


@pytest.mark.parametrize("retry", [RetryPolicy(max_elapsed=5), None])
def test_a_wait_beyond_the_budget_is_not_begun(client_for: ClientFor, retry: Any) -> None:
    """Where there is no time for Retry-After the error comes at once and has it."""
    with FakeSite([Answer(status=429, body="", headers={"Retry-After": "60"})]) as site:
        began = time.monotonic()
        with pytest.raises(RateLimitError) as caught:
            client_for(site.url, retry=retry).generate("Hi")
        assert time.monotonic() - began < 2
        assert caught.value.retry_after == 60


def test_waits_grow_up_to_a_limit() -> None:
    """Without a word from the site the wait doubles from initial_wait to max_wait."""
    policy = RetryPolicy(initial_wait=1, max_wait=5, jitter=0)
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    waits = []
    for attempt in (1, 2, 3, 4, 5000):
        state.attempt_number = attempt
        state.set_exception((ServerError, ServerError("x"), None))
        waits.append(policy.wait(state))
    assert waits == [1, 2, 4, 5, 5]


def test_a_tenacity_object_decides_instead(client_for: ClientFor) -> None:
    """Users' own tenacity rules are followed, and our error comes out, not tenacity's."""
    retry = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2), retry=tenacity.retry_if_exception_type(NotFoundError)
    )
    with FakeSite([Answer(status=404, body="")]) as site:
        with pytest.raises(NotFoundError):
            client_for(site.url, retry=retry).generate("Hi")
        assert len(site.requests) == 2


def test_the_longest_partial_text_is_kept(client_for: ClientFor) -> None:
    """If every attempt breaks off, the error has the most that arrived in any of them."""
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


def test_an_invalid_certificate_is_not_retried_even_after_pickling() -> None:
    """An invalid certificate is an error that is fatal and not retryable, in any process."""
    import ssl

    from aichatfree._wire.connection_errors import error_before_response

    cause = ssl.SSLCertVerificationError("wrong host")
    cause.verify_message = "wrong host"
    error = error_before_response(cause, host="chat.example", timeout=Timeout())
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert (each.retryable, each.fatal) == (False, True)


def test_a_policy_pickles() -> None:
    """A policy can travel to a worker."""
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
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    """Counts below one and negative times are errors at once."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        RetryPolicy(**bad)


@pytest.mark.parametrize("bad", [3, True, "yes", tenacity.AsyncRetrying()])
def test_retry_takes_only_what_can_retry(client_for: ClientFor, bad: Any) -> None:
    """Anything but a policy, a blocking tenacity object or None is a TypeError at once."""
    with pytest.raises(TypeError, match="retry="):
        client_for("http://127.0.0.1:1", retry=bad)


def test_a_pooled_connection_that_the_site_closed_costs_no_failed_request(
    client_for: ClientFor,
) -> None:
    """Idle connections are closed by real servers after seconds; the next request goes through."""
    with FakeSite(["a", "b"]) as site:
        client = client_for(site.url, retry=None)
        client.generate("Hi")
        site.drop_connections()
        time.sleep(0.05)
        assert client.generate("Hi").text == "b"


def test_the_answer_of_a_broken_attempt_is_not_mixed_in(client_for: ClientFor) -> None:
    """The text is that of the attempt which succeeded, and of no other."""
    seen: list[int] = []

    def answers(request: Request) -> Answer:
        seen.append(1)
        return Answer("first half", end="cut") if len(seen) < 3 else Answer("all", " of it")

    with FakeSite([answers]) as site:
        assert client_for(site.url).generate("Hi").text == "all of it"


def test_a_callback_of_tenacity_is_no_answer(client_for: ClientFor) -> None:
    """What would turn a failure into a value does not turn half an answer into a whole one."""
    retry = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(1), retry_error_callback=lambda state: "made up"
    )
    with FakeSite([Answer("half", end="cut")]) as site, pytest.raises(StreamInterruptedError):
        client_for(site.url, retry=retry).generate("Hi")


def test_the_total_holds_for_tenacity_objects_too(client_for: ClientFor) -> None:
    """Users' own rules do not outlast the call's time."""
    retry = tenacity.Retrying(wait=tenacity.wait_fixed(0.2))
    with FakeSite([Answer(status=500, body="")]) as site:
        began = time.monotonic()
        with pytest.raises(ServerError):
            client_for(site.url, retry=retry).generate("Hi", timeout=Timeout(total=0.7))
        assert time.monotonic() - began < 2


def test_a_turn_that_would_come_too_late_is_not_waited_for(client_for: ClientFor) -> None:
    """Where the pacer has no turn within the budget the call fails at once, and sends nothing."""
    with FakeSite("Hello") as site:
        client = client_for(site.url, max_requests_per_minute=1, retry=RetryPolicy(max_elapsed=5))
        client.generate("Hi")
        began = time.monotonic()
        with pytest.raises(RateLimitError, match="not sent") as caught:
            client.generate("Hi")
        assert time.monotonic() - began < 1
        assert caught.value.attempts == 0
        assert len(site.requests) == 1


def test_the_last_failure_is_told_and_not_the_first(client_for: ClientFor) -> None:
    """An attempt's error is judged by its own cause, whatever the attempt before met."""
    with FakeSite([Raw(end="stall"), Answer("Hel", end="cut")]) as site:
        client = client_for(
            site.url, timeout=Timeout(read=0.3), retry=dataclasses.replace(FAST, max_attempts=2)
        )
        with pytest.raises(StreamInterruptedError, match="2 attempts") as caught:
            client.generate("Hi")
    assert isinstance(caught.value.__cause__, urllib3.exceptions.HTTPError)


def test_an_error_that_is_being_handled_is_no_cause(client_for: ClientFor) -> None:
    """Asking another site in an `except` block neither blames the first nor changes its error."""
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


def test_rules_about_results_have_nothing_to_judge(client_for: ClientFor) -> None:
    """A tenacity object is asked about failures only; an answer is an answer."""
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
