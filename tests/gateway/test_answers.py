"""How an accepted question is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from aichatfree import GEMINI, OPENAI, Dialect, Message
from aichatfree.gateway import EngineError, Gateway
from helpers import signed_body

from .connections import connect, post, read_to_end, request, send
from .engines import GatedEngine, ScriptedEngine

DIALECTS = pytest.mark.parametrize("dialect", [GEMINI, OPENAI], ids=lambda each: each.name)


@DIALECTS
def test_the_body_is_the_text_of_the_answer(dialect: Dialect) -> None:
    """The answer is sent as plain text in UTF-8."""
    with Gateway(ScriptedEngine("При", "вет", " 👋")) as gateway:
        response = post(gateway, signed_body(dialect=dialect))
    assert (response.status_code, response.content.decode()) == (200, "Привет 👋")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_each_chunk_of_the_engine_is_one_http_chunk() -> None:
    """Each chunk of the engine is sent as one HTTP chunk, and an empty one is not sent."""
    with Gateway(ScriptedEngine("ab", "", "c")) as gateway:
        body = read_to_end(send(gateway, signed_body())).partition(b"\r\n\r\n")[2]
    assert body == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


def test_a_chunk_is_sent_before_the_engine_produces_the_next() -> None:
    """A client receives the first chunk while the engine has not produced the second one."""
    engine = GatedEngine("first", "second")
    with Gateway(engine) as gateway:
        engine.gate.release()
        with post(gateway, signed_body(), stream=True) as response:
            chunks = response.iter_content(None)
            assert next(chunks) == b"first"
            engine.gate.release()
            assert list(chunks) == [b"second"]


def test_an_answer_without_text_is_an_empty_success() -> None:
    """If the engine produces no text, the response is a 200 with an empty body."""
    with Gateway(ScriptedEngine("")) as gateway:
        response = post(gateway, signed_body())
    assert (response.status_code, response.content) == (200, b"")


@DIALECTS
def test_the_engine_gets_the_conversation_in_one_form(dialect: Dialect) -> None:
    """In both dialects the engine gets all messages as `role` and `content`."""
    turns: list[Message] = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
    ]
    engine = ScriptedEngine("ok")
    with Gateway(engine) as gateway:
        body = signed_body("3", dialect, messages=dialect.encode(turns))
        assert post(gateway, body).status_code == 200
    assert engine.messages == turns


@pytest.mark.parametrize(("dialect", "expected"), [(GEMINI, None), (OPENAI, 0.5)])
def test_the_engine_gets_the_temperature_of_an_openai_request(
    dialect: Dialect, expected: float | None
) -> None:
    """The temperature is passed to the engine in the openai dialect and ignored in gemini."""
    engine = ScriptedEngine("ok")
    with Gateway(engine) as gateway:
        assert post(gateway, signed_body(dialect=dialect, temperature=0.5)).status_code == 200
    assert engine.temperature == expected


def test_a_client_may_ask_whether_to_send_its_body() -> None:
    """A client that sends `Expect: 100-continue` is told to send its body, and gets its answer."""
    body = signed_body()
    head = f"Host: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {len(body)}"
    with Gateway(ScriptedEngine("done")) as gateway, connect(gateway) as connection:
        connection.sendall(f"POST /api/generate HTTP/1.1\r\n{head}\r\n\r\n".encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert b"\r\ndone\r\n" in read_to_end(connection)


def test_a_stream_keeps_its_connection_open() -> None:
    """After an answer the next question can be sent on the same connection."""
    with Gateway(ScriptedEngine("done")) as gateway, connect(gateway) as connection:
        for _ in range(3):
            connection.sendall(request(signed_body()))
            received = b""
            while not received.endswith(b"\r\n0\r\n\r\n"):
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_http_1_0_client_gets_the_answer_with_its_length() -> None:
    """An HTTP/1.0 client, for which nothing can be chunked, gets a body with a `Content-Length`."""
    with Gateway(ScriptedEngine("ab", "c")) as gateway:
        response = read_to_end(send(gateway, signed_body(), version="1.0"))
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"Content-Length: 3" in head
    assert body == b"abc"


def test_an_http_1_0_client_never_gets_an_incomplete_answer() -> None:
    """An HTTP/1.0 client gets an error, and no text, when the engine fails after some chunks."""
    with Gateway(ScriptedEngine("part", error=EngineError("no"))) as gateway:
        response = read_to_end(send(gateway, signed_body(), version="1.0"))
    assert response.startswith(b"HTTP/1.0 500 ")
    assert b"part" not in response


def test_a_lone_surrogate_of_the_engine_is_replaced() -> None:
    """A lone surrogate, which UTF-8 cannot represent, is sent as U+FFFD."""
    with Gateway(ScriptedEngine("a\ud83d", "b")) as gateway:
        assert post(gateway, signed_body()).content.decode() == "a\ufffdb"


def test_an_engine_may_return_any_iterable_and_it_is_closed() -> None:
    """What `generate` returns need not be a generator, and its `close`, if any, is called."""

    class Chunks:
        closed = False

        def __iter__(self) -> Iterator[str]:
            return iter(["a", "b"])

        def close(self) -> None:
            self.closed = True

    class Engine(ScriptedEngine):
        def generate(self, messages: list[Message], **options: Any) -> Any:
            return chunks

    chunks = Chunks()
    with Gateway(Engine()) as gateway:
        assert post(gateway, signed_body()).text == "ab"
    assert chunks.closed


@pytest.mark.parametrize("path", ["/", "/api/generate"])
def test_the_response_to_a_head_request_has_no_body(path: str) -> None:
    """The response to HEAD is headers only, because more would be taken for the next response."""
    with Gateway(ScriptedEngine()) as gateway:
        connection = connect(gateway)
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert read_to_end(connection).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("POST", "/", 405),
        ("GET", "/api/generate", 405),
        ("HEAD", "/api/generate", 405),
        ("OPTIONS", "/api/generate", 405),
        ("GET", "/api/auth", 405),
        ("POST", "/api/generate/", 404),
        ("POST", "/elsewhere", 404),
    ],
)
def test_an_unknown_path_is_a_404_and_a_wrong_method_a_405(
    method: str, path: str, status: int
) -> None:
    """An unknown path gives a 404; a wrong method gives a 405 with the right one in `Allow`."""
    with Gateway(ScriptedEngine("ok")) as gateway:
        response = requests.request(method, gateway.url + path, timeout=10)
    assert response.status_code == status
    assert ("Allow" in response.headers) == (status == 405)
    assert bool(response.content) == (method != "HEAD")


def test_the_parts_of_a_message_are_one_text() -> None:
    """Several parts of a gemini message are joined, for the signature and for the engine."""
    parts = [{"text": "He"}, {"text": "llo"}]
    engine = ScriptedEngine("ok")
    with Gateway(engine) as gateway:
        body = json.loads(signed_body("Hello"))
        body["messages"] = [{"role": "user", "parts": parts}]
        assert post(gateway, json.dumps(body)).status_code == 200
    assert engine.messages == [{"role": "user", "content": "Hello"}]
