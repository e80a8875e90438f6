"""OpenAI's API on the wire: requests, errors, and how answers end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from aichatfree.gateway import Engine, EngineError, Gateway, TokenLimitError, Usage
from helpers import LONG, Echo

from .connections import connect, post, read_to_end
from .engines import ScriptedEngine

CHAT = "/v1/chat/completions"
QUESTION: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = {**QUESTION, "stream": True}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(Echo()) as gateway:
        yield gateway


def ask(gateway: Gateway, body: Any, key: str | None = None) -> requests.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return post(gateway, json.dumps(body).encode(), CHAT, headers=headers)


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
    """Each chunk is an event of its own; the first one has the role, and the last one is
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
        (200, 502, "server_error"),
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


# --- requests ---------------------------------------------------------------------------------


def test_the_engine_gets_the_conversation_and_the_options() -> None:
    """Text parts are joined, the role `developer` means `system`, and the temperature and the limit
    of tokens are passed on.
    """
    engine = ScriptedEngine("Hello")
    parts = [{"type": "text", "text": "Na"}, {"type": "text", "text": "me it."}]
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "assistant", "content": "", "refusal": None, "tool_calls": None},
        {"role": "user", "content": parts},
    ]
    options = {"temperature": 0.5, "max_tokens": 9, "max_completion_tokens": 7}
    with Gateway(engine) as gateway:
        assert ask(gateway, {"messages": messages, **options}).status_code == 200
    assert engine.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "Name it."},
    ]
    assert (engine.temperature, engine.max_tokens) == (0.5, 7)


IGNORED = {
    "n": 1,
    "tools": [],
    "stop": None,
    "logprobs": False,
    "modalities": ["text"],
    "top_p": 0.1,
    "response_format": {"type": "text"},
    "seed": 7,
    "user": "ann",
    "logit_bias": {"5": 1},
    "presence_penalty": 1,
    "metadata": {},
    "tool_choice": "auto",
    "unheard_of": [1],
    "stream": None,
    "stream_options": None,
    "temperature": None,
    "max_tokens": None,
}


def test_fields_that_change_nothing_are_ignored(gateway: Gateway) -> None:
    """Fields that ask for nothing special, for a way of sampling, or for nothing known are
    ignored.
    """
    assert ask(gateway, {**QUESTION, **IGNORED}).status_code == 200


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
REFUSED: list[tuple[str, Any]] = [
    ("messages", None),
    ("messages", []),
    ("messages", "Hi"),
    ("messages", ["Hi"]),
    ("messages", [{"content": "Hi"}]),
    ("messages", [{"role": ["user"], "content": "Hi"}]),
    ("messages", [{"role": "tool", "content": "Hi"}]),
    ("messages", [{"role": "user", "content": None}]),
    ("messages", [{"role": "user", "content": [5]}]),
    ("messages", [{"role": "user", "content": [{"type": "input_audio"}]}]),
    ("messages", [{"role": "user", "content": [IMAGE]}]),
    ("model", 5),
    ("model", "m" * 201),
    ("stream", "yes"),
    ("stream_options", True),
    ("temperature", 2.1),
    ("temperature", "hot"),
    ("max_tokens", 0),
    ("max_tokens", 1.5),
    ("max_completion_tokens", True),
    ("n", 2),
    ("stop", ["\n"]),
    ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("functions", [{"name": "f"}]),
    ("response_format", {"type": "json_object"}),
    ("logprobs", True),
    ("modalities", ["text", "audio"]),
    ("audio", {"voice": "alloy"}),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_field_that_cannot_be_honoured_is_a_400_that_names_it(
    gateway: Gateway, name: str, value: Any
) -> None:
    """What would change the answer and cannot be done, or has the wrong type, is refused."""
    response = ask(gateway, {**QUESTION, name: value})
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["param"] == name
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"Hi"', b"NaN", b"[" * 100_000])
def test_a_body_that_is_not_a_json_object_is_a_400(gateway: Gateway, body: bytes) -> None:
    """Whatever the body is, the error has OpenAI's form."""
    response = post(gateway, body, CHAT)
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_too_large_is_a_413_in_openais_form() -> None:
    """Refusals by the gateway itself have the form of the API that was asked."""
    with Gateway(Echo(), max_body=100) as gateway:
        response = post(gateway, b"x" * 101, CHAT)
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/responses", "/v1/completions", "/v1/x/y"])
def test_other_paths_are_a_404_that_names_the_chat_endpoint(gateway: Gateway, path: str) -> None:
    """Clients of other endpoints learn which one to use."""
    response = post(gateway, b"{}", path)
    assert response.status_code == 404
    assert CHAT in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", CHAT, "POST"), ("POST", "/v1/models", "GET")]
)
def test_a_wrong_method_is_a_405(gateway: Gateway, method: str, path: str, allowed: str) -> None:
    """The response says which method is right."""
    response = requests.request(method, gateway.url + path, timeout=LONG)
    assert response.status_code == 405
    assert response.headers["Allow"] == allowed


class Named(Engine):
    models = ("org/first", "second")

    def generate(self, messages: Any, **options: Any) -> Iterator[str]:
        yield "Hello"


def test_the_models_of_the_engine_are_listed() -> None:
    """Each model is in the list and can be looked up by its name, which may have a slash."""
    with Gateway(Named()) as gateway:
        listed = requests.get(f"{gateway.url}/v1/models", timeout=LONG).json()
        found = requests.get(f"{gateway.url}/v1/models/org/first", timeout=LONG).json()
        encoded = requests.get(f"{gateway.url}/v1/models/org%2Ffirst", timeout=LONG).json()
        unknown = requests.get(f"{gateway.url}/v1/models/third", timeout=LONG)
    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == ["org/first", "second"]
    assert found == encoded == listed["data"][0]
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"


def test_an_answer_has_the_name_of_the_engine_unless_the_request_names_a_model() -> None:
    """A request without a model gets the engine's first one."""
    with Gateway(Named()) as gateway:
        assert ask(gateway, {"messages": QUESTION["messages"]}).json()["model"] == "org/first"
