"""Real clients of OpenAI's API, in front of each engine: what their users see."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import openai
import pytest

from aichatfree import Client, Message
from aichatfree.gateway import Engine, EngineError, Gateway, OpenAIUpstream, SiteEngine, SmolLM2
from aichatfree.testing import Answer, FakeSite
from helpers import AT_ONCE, FAST, SHORT, UNREACHABLE, threads_named, wait_until

from .engines import GatedEngine, ScriptedEngine
from .openai_clients import CLIENTS, FAILURES, STOPPING_CLIENTS, ask_openai

KEY = "sesame"
#: Seconds that a server asks to wait; short, and long enough to be noticed.
WAIT = 1.0

every_client = pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
every_stopping_client = pytest.mark.parametrize(
    "stop", STOPPING_CLIENTS.values(), ids=STOPPING_CLIENTS
)
streamed_or_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "complete"])


class Busy(Engine):
    """Refuses the first question and answers the others."""

    questions = 0

    def generate(self, messages: list[Message], **options: object) -> Iterator[str]:
        self.questions += 1
        if self.questions == 1:
            raise EngineError("Too many requests.", status=429, retry_after=WAIT)
        yield "Hello"


class EndlessAtFirst(Engine):
    """The first answer ends only when it is cancelled; the others are "Hello"."""

    questions = 0

    def generate(
        self, messages: list[Message], *, cancelled: threading.Event, **options: object
    ) -> Iterator[str]:
        self.questions += 1
        if self.questions > 1:
            yield "Hello"
            return
        yield "one"
        cancelled.wait()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def behind(stack: ExitStack, engine: Engine) -> str:
    """The URL of OpenAI's API of a gateway with this engine, one slot and a password."""
    stack.callback(engine.close)
    return stack.enter_context(Gateway(engine, password=KEY, max_streams=1)).url + "/v1"


def of_site(stack: ExitStack, *script: Answer) -> str:
    """The URL of a gateway whose engine is a site with this script."""
    site = stack.enter_context(FakeSite(script))
    return behind(stack, SiteEngine(Client(site.url, retry=FAST)))


def of_upstream(stack: ExitStack, engine: Engine) -> str:
    """The URL of a gateway that asks another one by OpenAI's API."""
    return behind(stack, OpenAIUpstream(behind(stack, engine), "any", KEY))


Ask = Callable[[str, str, bool], str]
Serve = Callable[[ExitStack], str]
Stop = Callable[[str, str], None]


def every_engine(**kinds: Serve) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("serve", kinds.values(), ids=kinds)


@every_engine(
    site=lambda stack: of_site(stack, Answer("Hel", "lo, 👋")),
    upstream=lambda stack: of_upstream(stack, ScriptedEngine("Hel", "lo, 👋")),
)
@every_client
@streamed_or_not
def test_a_complete_answer_arrives(ask: Ask, serve: Serve, stream: bool, stack: ExitStack) -> None:
    """Each client gets the complete text, in a stream or at once."""
    assert ask(serve(stack), KEY, stream) == "Hello, 👋"


@every_engine(
    site=lambda stack: of_site(stack, Answer("half of it", end="cut")),
    failing_site=lambda stack: of_site(stack, Answer("half of it", end="tail")),
    upstream=lambda stack: of_upstream(
        stack, ScriptedEngine("half of it", error=EngineError("broken", status=502))
    ),
)
@every_client
@streamed_or_not
def test_an_answer_that_is_cut_off_is_an_error(
    ask: Ask, serve: Serve, stream: bool, stack: ExitStack
) -> None:
    """No client takes a part of an answer for the answer."""
    url = serve(stack)
    with pytest.raises(FAILURES):
        ask(url, KEY, stream)


@every_engine(
    site=lambda stack: behind(stack, SiteEngine(Client(UNREACHABLE, retry=FAST))),
    upstream=lambda stack: behind(stack, OpenAIUpstream(UNREACHABLE, "any")),
)
@every_client
def test_a_server_that_is_down_is_an_error(ask: Ask, serve: Serve, stack: ExitStack) -> None:
    """If what is behind the gateway cannot be reached, each client says that the server failed."""
    url = serve(stack)
    with pytest.raises(FAILURES, match=r"cannot be reached|refuse"):
        ask(url, KEY, True)


@every_client
def test_a_wrong_key_is_an_error_that_says_what_the_key_is(ask: Ask, stack: ExitStack) -> None:
    """The error for a wrong API key says that the key is the gateway's password."""
    url = behind(stack, ScriptedEngine("Hello"))
    with pytest.raises(FAILURES, match="use the gateway's password"):
        ask(url, "wrong", True)


@every_engine(
    site=lambda stack: of_site(
        stack,
        Answer(status=429, headers={"Retry-After": f"{WAIT:g}"}, body="Too many requests."),
        Answer("Hello"),
    ),
    upstream=lambda stack: of_upstream(stack, Busy()),
)
@every_client
@streamed_or_not
def test_a_stated_wait_is_kept_and_the_answer_arrives(
    ask: Ask, serve: Serve, stream: bool, stack: ExitStack
) -> None:
    """If a server says how long to wait, the answer arrives after that, without an error: the
    site's client waits in the gateway, and for an upstream the gateway's own client waits.
    """
    url = serve(stack)
    started = time.monotonic()
    assert ask(url, KEY, stream) == "Hello"
    assert time.monotonic() - started >= WAIT


def test_a_rate_limit_that_outlasts_the_retries_is_reported_once(stack: ExitStack) -> None:
    """When the site's client gives up, the user's client gets a 429 with the wait and does not ask
    again: the two do not multiply their retries.
    """
    busy = Answer(status=429, headers={"Retry-After": "600"}, body="Too many requests.")
    site = stack.enter_context(FakeSite(busy))
    url = behind(stack, SiteEngine(Client(site.url, retry=None)))
    client = stack.enter_context(openai.OpenAI(base_url=url, api_key=KEY))
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.response.headers["Retry-After"] == "600"
    assert len(site.requests) == 1


@every_engine(
    site=lambda stack: of_site(stack, Answer("one", end="stall"), Answer("Hello")),
    upstream=lambda stack: of_upstream(stack, EndlessAtFirst()),
)
@every_stopping_client
def test_an_answer_that_is_cancelled_ends_at_once(
    stop: Stop, serve: Serve, stack: ExitStack
) -> None:
    """Soon after a client has stopped reading a stream, all engines behind it have ended: the next
    question gets the only slot of each gateway.
    """
    url = serve(stack)
    stop(url, KEY)
    started = time.monotonic()
    assert ask_openai(url, KEY, True) == "Hello"
    assert time.monotonic() - started < AT_ONCE


@every_engine(
    site=lambda stack: of_site(stack, Answer("one", end="stall")),
    silent_site=lambda stack: of_site(stack, Answer("", end="stall")),
    upstream=lambda stack: of_upstream(stack, GatedEngine("one")),
)
def test_an_answer_that_nobody_waits_for_ends_at_once(serve: Serve, stack: ExitStack) -> None:
    """When a client's timeout has passed, all engines behind it end soon."""
    url = serve(stack)
    client = openai.OpenAI(base_url=url, api_key=KEY, timeout=SHORT, max_retries=0)
    with client, pytest.raises(openai.APITimeoutError):
        for _ in client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
        ):
            pass
    wait_until(lambda: not threads_named("aichatfree-engine"), AT_ONCE)


# --- the built-in model -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def built_in_model() -> Iterator[str]:
    with ExitStack() as stack:
        engine = SmolLM2(max_tokens=40)
        engine.load()
        yield behind(stack, engine)


@pytest.mark.xdist_group("embedded model")
@every_client
@streamed_or_not
def test_the_built_in_model_answers(ask: Ask, stream: bool, built_in_model: str) -> None:
    """Each client gets an answer of the built-in model."""
    assert ask(built_in_model, KEY, stream).strip()


@pytest.mark.xdist_group("embedded model")
def test_the_built_in_model_stops_at_max_tokens_and_counts(built_in_model: str) -> None:
    """An answer that reaches the `max_tokens` of the request says so, and how many they were."""
    with openai.OpenAI(base_url=built_in_model, api_key=KEY) as client:
        reply = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Count to ten."}], max_tokens=3
        )
        assert [model.id for model in client.models.list()] == ["SmolLM2-135M-Instruct"]
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3
    assert reply.usage.prompt_tokens > 3


@pytest.mark.xdist_group("embedded model")
@every_stopping_client
def test_the_built_in_model_stops_when_its_client_does(
    stop: Stop, built_in_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Soon after a client has stopped reading a stream, the model stops."""
    caplog.set_level(logging.INFO, "aichatfree.gateway")
    stop(built_in_model, KEY)
    wait_until(lambda: any(line.endswith("cut off") for line in caplog.messages), AT_ONCE)
    started = time.monotonic()
    with openai.OpenAI(base_url=built_in_model, api_key=KEY) as client:
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], max_tokens=1
        )
    assert time.monotonic() - started < AT_ONCE
