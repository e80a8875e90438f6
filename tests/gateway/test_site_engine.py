"""`SiteEngine`: a chat site, through a client of this package, as a gateway's engine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aichatfree import OPENAI, Client, Dialect, Message
from aichatfree._cancellation import CancelToken
from aichatfree.gateway import EngineError, Gateway, SiteEngine
from aichatfree.testing import Answer, FakeSite, Raw
from helpers import AT_ONCE, FAST, SHORT, UNREACHABLE, ClientFor, wait_until

from .connections import ask

QUESTION: list[Message] = [{"role": "user", "content": "Hi"}]
IMAGE: list[Message] = [
    {"role": "user", "content": "What is it?", "images": ["data:image/png;base64,AAAA"]}
]


def generate(
    client: Client,
    messages: list[Message] = QUESTION,
    *,
    temperature: float | None = None,
    cancelled: threading.Event | None = None,
) -> Iterator[str]:
    return SiteEngine(client).generate(
        messages,
        temperature=temperature,
        max_tokens=5,
        cancelled=cancelled or threading.Event(),
    )


def failure(client: Client, **arguments: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        list(generate(client, **arguments))
    return caught.value


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (Answer(status=400, body="too long"), 400, "bad_request"),
        (Answer(status=401, body="Invalid password."), 401, "invalid_api_key"),
        (Answer(status=403, body="Blocked"), 502, "site_failed"),
        (Answer(status=404, body="Not found"), 502, "site_failed"),
        (Answer(status=429, body="Too many requests"), 429, "rate_limit_exceeded"),
        (Answer(status=500, body="Quota exceeded"), 429, "rate_limit_exceeded"),
        (Answer(status=529, body="Overloaded"), 503, "overloaded"),
        (Answer(status=500, body="Oops"), 502, "site_failed"),
        (Answer("<html>", content_type="text/html"), 502, "site_failed"),
        (Answer(""), 502, "empty_reply"),
        (Answer("so far", end="cut"), 502, "cut_off"),
        (Raw(b""), 502, "connection_failed"),
    ],
)
def test_an_error_of_the_client_has_a_status_and_a_code(
    client_for: ClientFor, answer: Answer | Raw, status: int, code: str
) -> None:
    """Each kind of error is reported with the status that fits it, whatever the site's was."""
    with FakeSite(answer) as site:
        error = failure(client_for(site.url, retry=None))
    assert (error.status, error.code) == (status, code)
    assert "site behind this gateway" in error.message


def test_a_site_that_is_silent_is_a_504(client_for: ClientFor) -> None:
    """A site that exceeds the client's time limits is a timeout of the gateway."""
    with FakeSite(Answer("late", end="stall", delay=100)) as site:
        assert failure(client_for(site.url, retry=None, timeout=SHORT)).status == 504


def test_a_client_that_was_closed_is_a_503() -> None:
    """After the engine was closed, questions are refused."""
    client = Client(UNREACHABLE)
    SiteEngine(client).close()
    assert failure(client).status == 503


def test_a_stated_wait_is_passed_on(client_for: ClientFor) -> None:
    """The wait that the site asks for is that of the error."""
    with FakeSite(Answer(status=429, headers={"Retry-After": "33"}, body="No.")) as site:
        assert failure(client_for(site.url, retry=None)).retry_after == 33


@pytest.mark.parametrize(
    ("answer", "told", "advice"),
    [
        (
            Answer(status=401, body="Invalid password: Hi"),
            "The site behind this gateway refuses the gateway, or its own key is wrong.",
            "Set the site's password with password=.",
        ),
        (
            Answer(status=404, body="Not found: Hi"),
            "The site behind this gateway failed: Not found: Hi",
            "Check base_url=: no chat API is there.",
        ),
        (
            Answer(status=429, body="Too many requests: Hi"),
            "The site behind this gateway limits its requests: Too many requests: Hi",
            "Wait, or send less: max_requests_per_minute= keeps to a limit.",
        ),
        (
            Answer(status=503, body="<html>Hi"),
            "The site behind this gateway is overloaded.",
            "Try again in a while.",
        ),
        (
            Answer("<html>", content_type="text/html"),
            "The site behind this gateway failed.",
            "Check base_url=: it is the part before /api/generate.",
        ),
    ],
)
def test_clients_are_told_what_happened_and_the_operator_what_to_do(
    client_for: ClientFor,
    caplog: pytest.LogCaptureFixture,
    answer: Answer,
    told: str,
    advice: str,
) -> None:
    """The advice of an error names arguments of the site's client, which no client of the gateway
    can set, so it is in the log. The site's words may repeat the question, so they are not.
    """
    caplog.set_level(logging.INFO, "aichatfree.gateway")
    with FakeSite(answer) as site, Gateway(SiteEngine(client_for(site.url, retry=None))) as gateway:
        message = ask(gateway, {"messages": QUESTION, "model": "m"}).json()["error"]["message"]
    assert message == told
    (line,) = [record.getMessage() for record in caplog.records if "POST /v1" in record.message]
    assert line.endswith(advice)
    assert "Hi" not in line


@pytest.mark.parametrize(
    ("answer", "retried"),
    [(Answer(status=500, body="Oops"), True), (Answer("a", end="cut"), False)],
)
def test_only_an_answer_that_had_begun_was_not_retried(
    client_for: ClientFor, answer: Answer, retried: bool
) -> None:
    """The client retries until the first chunk; the error says whether it has done so."""
    with FakeSite(answer) as site:
        assert failure(client_for(site.url)).retried is retried
        assert len(site.requests) == (5 if retried else 1)


def test_the_password_and_the_secret_are_not_in_an_error(client_for: ClientFor) -> None:
    """A site that repeats what it was sent cannot reveal it to the gateway's clients."""
    with FakeSite(Answer(status=400, body="wrong: pass-word key-of-site")) as site:
        client = client_for(site.url, password="pass-word", secret="key-of-site")
        message = failure(client).message
    assert "pass-word" not in message
    assert "key-of-site" not in message


@pytest.mark.parametrize(("dialect", "sent"), [("openai", 0.5), ("gemini", None)])
def test_the_temperature_is_left_out_where_the_dialect_has_none(
    client_for: ClientFor, dialect: str, sent: float | None
) -> None:
    """A question with a temperature is answered by every site, but only some get it."""
    with FakeSite() as site:
        assert list(generate(client_for(site.url, dialect=dialect), temperature=0.5)) == ["Hello"]
        assert site.requests[0].json.get("temperature") == sent


def test_images_are_sent_where_the_dialect_takes_them(client_for: ClientFor) -> None:
    """In a dialect with images the site gets them."""
    with FakeSite() as site:
        assert list(generate(client_for(site.url, dialect=OPENAI), IMAGE)) == ["Hello"]
        (message,) = site.requests[0].json["messages"]
    assert message["content"][1]["image_url"]["url"].startswith("data:image/png")


@pytest.mark.parametrize(
    ("dialect", "messages"),
    [
        (Dialect("plain"), IMAGE),
        (OPENAI, [{"role": "user", "content": " "}]),
        (Dialect("strict", user_last=True), [{"role": "assistant", "content": "Hi"}]),
    ],
)
def test_messages_that_the_dialect_does_not_have_are_a_400(
    client_for: ClientFor, dialect: Dialect, messages: list[Message]
) -> None:
    """What cannot be sent to the site is refused, and nothing is sent."""
    with FakeSite() as site:
        error = failure(client_for(site.url, dialect=dialect), messages=messages, temperature=1)
        assert site.requests == []
    assert error.status == 400


def test_reasoning_is_not_part_of_the_answer(client_for: ClientFor) -> None:
    """What a model says before its answer is left out."""
    with FakeSite(Answer("<think>Let me see.</think>\n\n", "Four.")) as site:
        assert "".join(generate(client_for(site.url))) == "Four."


@pytest.mark.parametrize("answer", [Answer("a", end="stall"), Answer("a", delay=100)])
def test_cancelling_interrupts_the_site_at_once(client_for: ClientFor, answer: Answer) -> None:
    """When nobody waits for an answer any more, a silent site does not delay its end, which is not
    an error.
    """
    token = CancelToken()
    got: list[str] = []
    with FakeSite(answer) as site:
        chunks = generate(client_for(site.url), cancelled=token)
        reader = threading.Thread(target=lambda: got.extend(chunks))
        reader.start()
        wait_until(lambda: site.requests)
        time.sleep(SHORT)
        cancelled = time.monotonic()
        token.set()
        reader.join(AT_ONCE)
        assert not reader.is_alive()
        assert time.monotonic() - cancelled < AT_ONCE
    assert got in ([], ["a"])


def test_a_rejection_is_waited_for_and_retried_by_the_client_only(client_for: ClientFor) -> None:
    """The client's own retries answer the question; the engine adds none."""
    with FakeSite([Answer(status=503, body="Overloaded"), "Hello"]) as site:
        assert list(generate(client_for(site.url, retry=FAST))) == ["Hello"]
        assert len(site.requests) == 2


@pytest.mark.parametrize(("models", "error"), [("gpt", TypeError), ([], ValueError)])
def test_the_models_have_to_be_a_list_with_a_name(models: Any, error: type[Exception]) -> None:
    """A name that is not in a list, and an empty list, are errors that name the argument."""
    with Client(UNREACHABLE) as client, pytest.raises(error, match="models must"):
        SiteEngine(client, models=models)
