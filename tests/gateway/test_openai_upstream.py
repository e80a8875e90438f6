"""An OpenAI-compatible server as the engine: what it streams, how it fails, how it is stopped."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aichatfree._protocol.messages import Message
from aichatfree.gateway import EngineError, OpenAIUpstream

QUESTION: list[Message] = [{"role": "user", "content": "Hi"}]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"


class Server:
    """A server of one reply, on a real socket; it sends its pieces one by one."""

    def __init__(self, *pieces: bytes, hang: bool = False) -> None:
        self.pieces = pieces
        self.hang = hang
        self.request = b""
        self.when_asked: Callable[[], None] = lambda: None
        self.hung_up = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(10)
                self._reply(connection)

    def _reply(self, connection: socket.socket) -> None:
        while b"\r\n\r\n" not in self.request or not self.request.endswith(b"}"):
            self.request += connection.recv(65536)
        self.when_asked()
        for piece in self.pieces:
            connection.sendall(piece)
            time.sleep(0.005)
        if self.hang:
            assert connection.recv(1) == b""
            self.hung_up.set()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(5)

    @property
    def body(self) -> Any:
        return json.loads(self.request.partition(b"\r\n\r\n")[2])


def event(text: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, **more}
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


def generate(
    server: Server, cancelled: threading.Event | None = None, **options: Any
) -> Iterator[str]:
    engine = OpenAIUpstream(server.url, "tiny", **{"timeout": 5, **options})
    return engine.generate(QUESTION, temperature=None, cancelled=cancelled or threading.Event())


# --- streams ----------------------------------------------------------------------------------


def test_the_question_is_asked_as_openai_wants_it() -> None:
    """Address, key, model, messages and temperature are where such servers look for them."""
    with Server(OK, event("Hello"), DONE) as server:
        engine = OpenAIUpstream(server.url, "tiny", "key")
        pieces = engine.generate(QUESTION, temperature=0.5, cancelled=threading.Event())
        assert list(pieces) == ["Hello"]
    assert server.request.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer key\r\n" in server.request
    assert server.body == {
        "model": "tiny",
        "messages": QUESTION,
        "stream": True,
        "temperature": 0.5,
    }


STREAM = (
    b": a comment\n\n"
    + event("", role="assistant")
    + event("При")
    + b'data: {"choices": []}\r\n\r\n'
    + event("вет\u2028👋").replace(b"\n", b"\r\n")
    + b"event: ping\nid: 7\n\n"
    + b'data:{"choices":\ndata: [{"delta": {"content": "!"}}]}\n\n'
    + event(finish_reason="stop")
    + DONE
)


@pytest.mark.parametrize("size", [1, 7, len(STREAM)])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_stream_is_read_however_it_is_cut(size: int, chunked: bool) -> None:
    """Comments, CRLF, empty choices and characters split over reads change nothing."""
    pieces = [STREAM[i : i + size] for i in range(0, len(STREAM), size)]
    head = OK
    if chunked:
        head = OK.replace(b"Connection: close", b"Transfer-Encoding: chunked")
        pieces = [b"%x\r\n%b\r\n" % (len(each), each) for each in pieces] + [b"0\r\n\r\n"]
    joined = [b"".join(pieces[i : i + 40]) for i in range(0, len(pieces), 40)]
    with Server(head, *joined) as server:
        assert "".join(generate(server)) == "Привет\u2028👋!"


@pytest.mark.parametrize("end", [DONE, event(finish_reason="length"), b"data: [DONE]"])
def test_either_mark_is_an_end(end: bytes) -> None:
    """A finish reason will do as well as `[DONE]`, for not every server sends both."""
    with Server(OK, event("a"), end) as server:
        assert list(generate(server)) == ["a"]


@pytest.mark.parametrize("chunked", [False, True])
def test_an_end_without_a_mark_is_an_error(chunked: bool) -> None:
    """An answer that was cut is not taken for a whole one."""
    head, piece = OK, event("a")
    if chunked:
        head = OK.replace(b"Connection: close", b"Transfer-Encoding: chunked")
        piece = b"%x\r\n%b\r\n" % (len(piece), piece)
    with Server(head, piece) as server:
        pieces = generate(server)
        assert next(pieces) == "a"
        with pytest.raises(EngineError, match="broke off") as caught:
            next(pieces)
    assert caught.value.status == 502


def test_an_error_in_the_stream_is_an_error() -> None:
    """Servers that fail in the middle say so in the stream."""
    error = b'data: {"error": {"message": "out of memory", "code": 507}}\n\n'
    with Server(OK, event("a"), error, DONE) as server:
        pieces = generate(server)
        assert next(pieces) == "a"
        with pytest.raises(EngineError, match="out of memory") as caught:
            next(pieces)
    assert caught.value.status == 507


@pytest.mark.parametrize(
    "junk", [b"data: {\n\n", b"data: 7\n\n", b"data: " + b"[" * 9999 + b"\n\n"]
)
def test_junk_in_the_stream_is_an_error(junk: bytes) -> None:
    """What is not a JSON object is not guessed at."""
    with Server(OK, junk, DONE) as server, pytest.raises(EngineError, match="not JSON"):
        list(generate(server))


def test_a_line_without_end_is_an_error() -> None:
    """A server cannot fill the memory with one line."""
    with (
        Server(OK, b"data: ", *[b"x" * (1 << 20)] * 9, hang=True) as server,
        pytest.raises(EngineError, match="too long"),
    ):
        list(generate(server))


# --- refusals ---------------------------------------------------------------------------------


def refusal(status: str, body: bytes, headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n" % (status.encode(), len(body), headers)
    return head + body


@pytest.mark.parametrize(
    ("reply", "status", "code", "message"),
    [
        (
            refusal("429 X", b'{"error": {"message": "no quota", "code": "insufficient_quota"}}'),
            429,
            "insufficient_quota",
            "no quota",
        ),
        (refusal("404 X", b'{"error": "model \'tiny\' not found"}'), 404, None, "not found"),
        (
            refusal("400 X", b'{"message": "bad", "type": "BadRequest", "code": 400}'),
            400,
            None,
            "bad",
        ),
        (refusal("401 X", b'{"error": "Unauthorized"}'), 401, "invalid_api_key", "Unauthorized"),
        (refusal("502 X", b"<html>\nBad Gateway"), 502, None, "<html> Bad Gateway"),
        (refusal("503 X", b""), 503, None, "answered 503"),
        (refusal("307 X", b"", b"Location: http://127.0.0.1:1/\r\n"), 502, None, "answered 307"),
    ],
)
def test_a_refusal_keeps_its_status_and_words(
    reply: bytes, status: int, code: str | None, message: str
) -> None:
    """Any form of error body is understood; a redirect is not followed."""
    with Server(reply) as server, pytest.raises(EngineError) as caught:
        list(generate(server))
    assert caught.value.status == status
    assert caught.value.code == code or code is None
    assert message in caught.value.message


def test_a_refusal_keeps_its_wait() -> None:
    """`Retry-After` becomes seconds."""
    with (
        Server(refusal("429 X", b"", b"Retry-After: 27\r\n")) as server,
        pytest.raises(EngineError) as caught,
    ):
        list(generate(server))
    assert caught.value.retry_after == 27


def test_the_key_is_never_shown() -> None:
    """Not in the repr, and not in an error in which the server repeats it."""
    with Server(refusal("401 X", b"wrong key: sk-123")) as server:
        assert "sk-123" not in repr(OpenAIUpstream(server.url, "tiny", "sk-123"))
        with pytest.raises(EngineError) as caught:
            list(generate(server, api_key="sk-123"))
    assert "sk-123" not in str(caught.value)


def test_a_server_that_is_not_there_is_an_error() -> None:
    """Nobody listens: the words are the real site's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    engine = OpenAIUpstream(f"http://127.0.0.1:{port}/v1", "tiny")
    with pytest.raises(EngineError, match="fetch failed") as caught:
        list(engine.generate(QUESTION, temperature=None, cancelled=threading.Event()))
    assert caught.value.status == 500


@pytest.mark.parametrize("pieces", [[], [OK], [OK, event("a")]])
def test_a_silent_server_is_an_error(pieces: list[bytes]) -> None:
    """Silence beyond the timeout ends the answer, at any point of it."""
    with (
        Server(*pieces, hang=True) as server,
        pytest.raises(EngineError, match=r"silent for 0\.3 s") as caught,
    ):
        list(generate(server, timeout=0.3))
    assert caught.value.status == 504


@pytest.mark.parametrize("pieces", [[], [OK], [OK, event("a")]])
def test_a_cancelled_answer_hangs_up_on_the_server(pieces: list[bytes]) -> None:
    """The server sees the connection end, even while it is still silent."""
    cancelled = threading.Event()
    with Server(*pieces, hang=True) as server:
        server.when_asked = cancelled.set
        started = time.monotonic()
        assert list(generate(server, cancelled)) == (["a"] if len(pieces) == 2 else [])
        assert server.hung_up.wait(5)
        assert time.monotonic() - started < 0.6


def test_an_answer_that_is_dropped_hangs_up_on_the_server() -> None:
    """Closing the iterator closes the connection."""
    with Server(OK, event("a"), hang=True) as server:
        pieces = generate(server)
        assert next(pieces) == "a"
        pieces.close()  # type: ignore[attr-defined]
        assert server.hung_up.wait(5)
