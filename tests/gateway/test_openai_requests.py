"""OpenAI's API on the wire: what a request may have, paths, and models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from aichatfree.gateway import Engine, Gateway
from helpers import LONG, Echo

from .connections import CHAT, QUESTION, ask, post
from .engines import ScriptedEngine


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(Echo()) as gateway:
        yield gateway


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
