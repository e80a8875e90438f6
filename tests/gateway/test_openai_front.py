"""OpenAI's API on the wire: answers, how they end, and the errors of engines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

import openai
import pytest

from aichatfree import Client
from aichatfree.gateway import (
    Engine,
    EngineError,
    Gateway,
    OpenAIUpstream,
    SiteEngine,
    TokenLimitError,
    Usage,
)
from helpers import Echo

from .connections import CHAT, QUESTION, ask, connect, read_to_end
from .engines import ScriptedEngine

#: Seconds, the median: the gap between two chunks, which a delayed chunk would exceed.
MAX_DELAY = 0.02
STREAM = {**QUESTION, "stream": True}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(Echo()) as gateway:
        yield gateway


def raw(gateway: Gateway, body: Any, version: str = "1.1") -> bytes:
    """Everything that the gateway sends in response to a request."""
    content = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n"
    connection = connect(gateway)
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return read_to_end(connection)


def events(body: str) -> list[Any]:
    """The values of an event stream; its end mark as a string."""
    assert body.endswith("\n\n")
    data = [event.removeprefix("data: ") for event in body[:-2].split("\n\n")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def choice(delta: dict[str, str], finish_reason: str | None = None) -> list[Any]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]


# --- answers ----------------------------------------------------------------------------------


def test_a_stream_has_the_role_the_chunks_the_finish_reason_and_the_end_mark() -> None:
    """Each chunk is one event; the first one has the role, and the last one is
    `[DONE]`. All have the same identifier and the model that was asked for.
    """
    with Gateway(ScriptedEngine("При", "вет 👋")) as gateway:
        response = ask(gateway, {**STREAM, "model": "any model"})
    response.encoding = "utf-8"
    *got, end = events(response.text)
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert [event["choices"] for event in got] == [
        choice({"role": "assistant", "content": "При"}),
        choice({"content": "вет 👋"}),
        choice({}, "stop"),
    ]
    assert {event["model"] for event in got} == {"any model"}
    assert {event["object"] for event in got} == {"chat.completion.chunk"}
    assert len({event["id"] for event in got}) == 1
    assert end == "[DONE]"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("chunks", "counted"), [([Usage(7, 2)], (7, 2, 9)), ([], (0, 0, 0))])
def test_the_usage_is_that_of_the_engine_or_zeros(
    stream: bool, chunks: list[Usage], counted: tuple[int, int, int]
) -> None:
    """Tokens are counted where the engine does. Otherwise there are zeros, because some clients
    cannot do without numbers.
    """
    body = {**QUESTION, "stream": stream, "stream_options": {"include_usage": True}}
    with Gateway(ScriptedEngine("Hello", *chunks)) as gateway:
        response = ask(gateway, body)
    answer = events(response.text)[-2] if stream else response.json()
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert answer["usage"] == dict(zip(names, counted, strict=True))
    assert bool(answer["choices"]) is not stream


def test_a_stream_has_no_usage_unless_it_was_asked_for(gateway: Gateway) -> None:
    """Without `include_usage` no event has a count."""
    assert all("usage" not in event for event in events(ask(gateway, STREAM).text)[:-1])


@pytest.mark.parametrize("chunks", [["so far"], []])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_stopped_at_a_limit_of_tokens_says_so(
    chunks: list[str], stream: bool
) -> None:
    """Its finish reason is "length"; besides that it is complete, even without any text."""
    with Gateway(ScriptedEngine(*chunks, error=TokenLimitError())) as gateway:
        response = ask(gateway, {**QUESTION, "stream": stream})
    answers = events(response.text)[:-1] if stream else [response.json()]
    assert answers[-1]["choices"][0]["finish_reason"] == "length"
    texts = [each["choices"][0].get("delta", each["choices"][0].get("message")) for each in answers]
    assert "".join(each.get("content", "") for each in texts) == "".join(chunks)


def test_an_incomplete_stream_ends_with_an_error_and_is_cut_off() -> None:
    """After the chunks come an event with the error, and neither a finish reason, nor `[DONE]`,
    nor the last chunk of HTTP.
    """
    failure = EngineError("The site failed.", status=502, code="cut_off")
    with Gateway(ScriptedEngine("so", " far", error=failure)) as gateway:
        got = raw(gateway, STREAM)
    assert b" far" in got
    error = {
        "message": "The site failed.",
        "type": "server_error",
        "param": None,
        "code": "cut_off",
    }
    assert got.endswith(b"data: " + json.dumps({"error": error}).encode() + b"\n\n\r\n")
    assert b"[DONE]" not in got
    assert b'"finish_reason": "' not in got


@pytest.mark.parametrize("status", [400, 429, 500, 502])
def test_an_incomplete_answer_without_a_stream_is_a_502(status: int) -> None:
    """A client that gets no stream gets an error without the text that had arrived."""
    failure = EngineError("The site failed.", status=status)
    with Gateway(ScriptedEngine("so far", error=failure)) as gateway:
        response = ask(gateway, QUESTION)
    assert response.status_code == 502
    assert response.json()["error"]["message"] == "The site failed."


def test_an_http_1_0_client_gets_no_stream(gateway: Gateway) -> None:
    """In HTTP/1.0 an answer that was cut off looks complete: a stream is refused, and a complete
    response has its length.
    """
    refused = raw(gateway, STREAM, version="1.0")
    assert refused.split(b" ", 2)[1] == b"426"
    assert b"\r\nUpgrade: HTTP/1.1\r\n" in refused
    assert b"proxy_http_version" in refused
    assert b"\r\nContent-Length: " in raw(gateway, QUESTION, version="1.0")


# --- errors of engines ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "seen", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 502, "server_error"),
        (403, 502, "server_error"),
        (404, 502, "server_error"),
        (429, 429, "rate_limit_error"),
        (500, 500, "server_error"),
        (503, 503, "server_error"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_the_status_of_an_engine_error_tells_whose_fault_it_is(
    status: int, seen: int, kind: str, stream: bool
) -> None:
    """A status that is not the fault of the caller's request, such as a wrong key of the gateway
    for the model's server, is a 502.
    """
    engine = ScriptedEngine(error=EngineError("It failed.", status=status, code="reason"))
    with Gateway(engine) as gateway:
        response = ask(gateway, {**QUESTION, "stream": stream})
    assert response.status_code == seen
    assert response.headers["Content-Type"] == "application/json"
    param = "messages" if seen == 400 else None
    error = {"message": "It failed.", "type": kind, "param": param, "code": "reason"}
    assert response.json() == {"error": error}


@pytest.mark.parametrize("retried", [True, False])
def test_a_client_is_told_when_to_retry_and_whether_to(retried: bool) -> None:
    """A stated wait is in `Retry-After`, in whole seconds; `X-Should-Retry` prevents retries of
    what the engine has already retried.
    """
    failure = EngineError("Too many.", status=429, retry_after=26.5, retried=retried)
    with Gateway(ScriptedEngine(error=failure)) as gateway:
        headers = ask(gateway, QUESTION).headers
    assert headers["Retry-After"] == "27"
    assert headers.get("X-Should-Retry") == ("false" if retried else None)


# --- speed --------------------------------------------------------------------------------------


class Stamping(Engine):
    """Each chunk is the time at which it was produced."""

    def generate(self, messages: Any, **options: Any) -> Iterator[str]:
        for _ in range(20):
            time.sleep(0.02)
            yield f"{time.monotonic()} "


@pytest.mark.parametrize("hop", ["none", "site", "upstream"])
def test_chunks_pass_without_delay(hop: str) -> None:
    """A chunk arrives as soon as it is produced, and not with the next one; usually within a few
    milliseconds, also through a second gateway. The limit leaves room for a busy machine.
    """
    with ExitStack() as stack:
        url = stack.enter_context(Gateway(Stamping())).url
        if hop != "none":
            engine = SiteEngine(Client(url)) if hop == "site" else OpenAIUpstream(f"{url}/v1", "m")
            stack.callback(engine.close)
            url = stack.enter_context(Gateway(engine)).url
        client = stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key="any"))
        stream = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        late = [
            time.monotonic() - float(event.choices[0].delta.content)
            for event in stream
            if event.choices[0].delta.content
        ]
    assert len(late) == 20
    assert median(late) < MAX_DELAY
