"""The gateway answers as the real sites do: checks, replies, streams."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from aichatfree._protocol.dialects import GEMINI, OPENAI, Dialect
from aichatfree._protocol.messages import Message
from aichatfree._protocol.prompts import messages_from
from aichatfree._protocol.responses import error_from_response
from aichatfree._protocol.signing import generate_signature, request_body
from aichatfree._protocol.sites import Site
from aichatfree.errors import BadRequestError, OverloadedError, RateLimitError
from aichatfree.gateway import EngineError, Gateway, OpenAIUpstream

DIALECTS = pytest.mark.parametrize("dialect", [GEMINI, OPENAI], ids=lambda each: each.name)


class Fake:
    """An engine that says what it is told to, and remembers what it was asked."""

    def __init__(self, *words: str, then: BaseException | None = None) -> None:
        self.words = words
        self.then = then
        self.messages: list[Message] = []
        self.temperature: float | None = None
        self.cancelled = threading.Event()
        self.closed = threading.Event()

    def generate(
        self, messages: list[Message], *, temperature: float | None, cancelled: threading.Event
    ) -> Iterator[str]:
        self.messages, self.temperature, self.cancelled = messages, temperature, cancelled
        try:
            yield from self.speak()
        finally:
            self.closed.set()

    def speak(self) -> Iterator[str]:
        yield from self.words
        if self.then is not None:
            raise self.then

    def close(self) -> None:
        pass


class Gated(Fake):
    """Each word waits for one `release()` of the gate, or for the request to be cancelled."""

    def __init__(self, *words: str) -> None:
        super().__init__(*words)
        self.gate = threading.Semaphore(0)
        self.started = threading.Semaphore(0)

    def speak(self) -> Iterator[str]:
        self.started.release()
        for word in self.words:
            while not self.gate.acquire(timeout=0.01):
                if self.cancelled.is_set():
                    return
            yield word


def signed(
    text: str = "Hello",
    dialect: Dialect = GEMINI,
    *,
    secret: str = "",
    password: str | None = None,
    **keys: Any,
) -> str:
    site = Site(dialect=dialect, secret=secret)
    body = json.loads(
        request_body(site, messages_from(text, None, dialect), now=time.time(), password=password)
    )
    return json.dumps({**body, **keys})


def ask(gateway: Gateway, body: str, **options: Any) -> requests.Response:
    return requests.post(f"{gateway.url}/api/generate", body.encode(), timeout=10, **options)


def send(gateway: Gateway, body: str, version: str = "1.1") -> socket.socket:
    """A connection on which the question has been sent."""
    host, port = gateway.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    head = f"POST /api/generate HTTP/{version}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall((head + body).encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


# --- answers ----------------------------------------------------------------------------------


@DIALECTS
def test_an_answer_looks_as_on_the_real_site(dialect: Dialect) -> None:
    """Raw text, labelled by the gemini sites and not labelled at all by the openai ones."""
    with Gateway(Fake("При", "вет", " 👋")) as gateway:
        reply = ask(gateway, signed(dialect=dialect))
    assert (reply.status_code, reply.content.decode()) == (200, "Привет 👋")
    expected = "text/plain; charset=utf-8" if dialect is GEMINI else None
    assert reply.headers.get("Content-Type") == expected


def test_each_piece_is_one_http_chunk() -> None:
    """What the engine says in one piece is one chunk on the wire, and empty pieces are none."""
    with Gateway(Fake("ab", "", "c")) as gateway:
        body = read_all(send(gateway, signed())).partition(b"\r\n\r\n")[2]
    assert body == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


def test_a_piece_is_sent_before_the_next_one_exists() -> None:
    """The engine's second word comes only after the client has got the first one."""
    engine = Gated("first", "second")
    with Gateway(engine) as gateway:
        engine.gate.release()
        with ask(gateway, signed(), stream=True) as reply:
            pieces = reply.iter_content(None)
            assert next(pieces) == b"first"
            engine.gate.release()
            assert list(pieces) == [b"second"]


def test_an_answer_without_a_word_is_an_empty_200() -> None:
    """An engine that says nothing gives what the real sites give: a success with no body."""
    with Gateway(Fake("")) as gateway:
        reply = ask(gateway, signed())
    assert (reply.status_code, reply.content) == (200, b"")


@DIALECTS
def test_the_engine_gets_the_conversation(dialect: Dialect) -> None:
    """Roles come in the users' form, and a temperature only where the real site takes one."""
    site = Site(dialect=dialect)
    turns = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
    ]
    body = request_body(
        site, messages_from(turns, None, dialect), now=time.time(), temperature=0.5
    ).decode()
    body = json.dumps({**json.loads(body), "temperature": 0.5})
    engine = Fake("ok")
    with Gateway(engine) as gateway:
        assert ask(gateway, body).status_code == 200
    assert engine.messages == turns
    assert engine.temperature == (0.5 if dialect is OPENAI else None)


def test_an_http_1_0_client_gets_the_answer_with_its_length() -> None:
    """Without chunks only a length can tell a whole answer from a broken one."""
    with Gateway(Fake("ab", "c")) as gateway:
        head, _, body = read_all(send(gateway, signed(), "1.0")).partition(b"\r\n\r\n")
    assert b"Content-Length: 3" in head
    assert body == b"abc"


def test_an_http_1_0_client_never_gets_a_part_of_an_answer() -> None:
    """An answer that breaks in the middle becomes an error there."""
    with Gateway(Fake("part", then=EngineError("no"))) as gateway:
        answer = read_all(send(gateway, signed(), "1.0"))
    assert answer.startswith(b"HTTP/1.0 500 ")
    assert b"part" not in answer


def test_half_a_character_is_replaced() -> None:
    """A lone surrogate from an engine becomes U+FFFD, as it would on the real sites."""
    with Gateway(Fake("a\ud83d", "b")) as gateway:
        assert ask(gateway, signed()).content.decode() == "a\ufffdb"


def test_any_iterator_is_an_answer() -> None:
    """An engine need not be written as a generator; what it returns is closed all the same."""

    class Pieces:
        closed = False

        def __iter__(self) -> Iterator[str]:
            return iter(["a", "b"])

        def close(self) -> None:
            self.closed = True

    class Engine(Fake):
        def generate(self, messages: list[Message], **options: Any) -> Any:
            return pieces

    pieces = Pieces()
    with Gateway(Engine()) as gateway:
        assert ask(gateway, signed()).text == "ab"
    assert pieces.closed


def test_a_head_request_has_no_body() -> None:
    """Not one byte of it, which would be taken for the start of the next reply."""
    with Gateway(Fake()) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        for path in ("/", "/api/generate"):
            connection = socket.create_connection((host, int(port)), timeout=10)
            connection.sendall(f"HEAD {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            assert read_all(connection).endswith(b"\r\n\r\n")


# --- checks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["a b ", "Привет", "👋🏽", "e\u0301", '"\\\n\t\0', "\ud83d", "a" * 50_000]
)
def test_the_exact_text_is_signed(text: str) -> None:
    """Any text passes with the signature that the protocol gives it, and with no other."""
    body = signed("x", secret="key")
    stamp = json.loads(body)["time"]
    # json.dumps writes a lone surrogate as an escape, which is how a browser would send it.
    body = json.dumps(
        {
            "messages": [{"role": "user", "parts": [{"text": text}]}],
            "time": stamp,
            "pass": None,
            "sign": generate_signature(stamp, text, "key"),
        }
    )
    with Gateway(Fake("ok"), secret="key") as gateway:
        assert ask(gateway, body).status_code == 200
        wrong = {**json.loads(body), "sign": generate_signature(stamp, text + " ", "key")}
        assert ask(gateway, json.dumps(wrong)).status_code == 401


def test_the_parts_of_a_message_are_signed_together() -> None:
    """Several parts count as one text."""
    parts = [{"text": "He"}, {"text": "llo"}]
    with Gateway(Fake("ok")) as gateway:
        body = signed("Hello", messages=[{"role": "user", "parts": parts}])
        assert ask(gateway, body).status_code == 200


@pytest.mark.parametrize(
    ("stamp", "printed"),
    [
        ("1700000000000.0", "1700000000000"),
        ("1700000000123456789", "1700000000123456789"),
        ('"1700000000000"', "1700000000000"),
        ("true", "True"),
        ("null", "None"),
        ("[]", "[]"),
    ],
)
def test_only_a_whole_number_is_a_time(stamp: str, printed: str) -> None:
    """A float, nanoseconds and everything else are refused although the signature fits."""
    sign = generate_signature(printed, "Hello")  # type: ignore[arg-type]
    body = signed(time="HERE", sign=sign).replace('"HERE"', stamp)
    with Gateway(Fake("ok")) as gateway:
        reply = ask(gateway, body)
    assert (reply.status_code, reply.json()) == (401, {"error": {"message": "Invalid signature."}})


@pytest.mark.parametrize("sign", [None, "", "0" * 64, "A" * 64, 7, "ключ", "\ud83d"])
def test_a_wrong_signature_is_refused(sign: object) -> None:
    """No signature but the right one passes, whatever it is made of."""
    with Gateway(Fake("ok")) as gateway:
        reply = ask(gateway, signed(sign=sign))
    assert (reply.status_code, reply.json()) == (401, {"error": {"message": "Invalid signature."}})


def test_the_password_is_checked_before_the_signature() -> None:
    """With both wrong, the password is what is complained about."""
    with Gateway(Fake("ok"), password="sesame") as gateway:
        reply = ask(gateway, signed(password="Sesame", sign=""))
        assert (reply.status_code, reply.json()["error"]["message"]) == (401, "Invalid password.")
        assert ask(gateway, signed()).status_code == 401
        assert ask(gateway, signed(password="sesame")).status_code == 200


@pytest.mark.parametrize(("password", "code"), [("one", 0), ("два", 0), ("three", -1), (None, -1)])
def test_a_site_can_have_several_passwords(password: str | None, code: int) -> None:
    """Any of them opens, in `/api/auth` as in a question."""
    with Gateway(Fake("ok"), password=["one", "два"]) as gateway:
        reply = requests.post(f"{gateway.url}/api/auth", json={"pass": password}, timeout=10)
        assert (reply.status_code, reply.json()) == (200, {"code": code})
        status = ask(gateway, signed(password=password)).status_code
        assert status == (200 if code == 0 else 401)


@pytest.mark.parametrize(("off", "word"), [(-412, "412 s behind"), (500, "500 s ahead of")])
def test_a_client_is_told_how_wrong_its_clock_is(off: int, word: str) -> None:
    """A signature out of the time window is refused with the number of seconds."""
    stamp = round((time.time() + off) * 1000)
    body = signed(time=stamp, sign=generate_signature(stamp, "Hello"))
    with Gateway(Fake("ok"), time_window=60) as gateway:
        reply = ask(gateway, body)
    assert reply.status_code == 401
    assert word in reply.json()["error"]["message"]


def test_a_time_in_seconds_is_understood() -> None:
    """A client of the deployments that count seconds is within the time window."""
    stamp = int(time.time())
    body = signed(time=stamp, sign=generate_signature(stamp, "Hello"))
    with Gateway(Fake("ok"), time_window=60) as gateway:
        assert ask(gateway, body).status_code == 200


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
def test_wrong_addresses_and_methods_are_named(method: str, path: str, status: int) -> None:
    """A wrong path is a 404, a wrong method a 405 that names the right one."""
    with Gateway(Fake("ok")) as gateway:
        reply = requests.request(method, gateway.url + path, timeout=10)
    assert reply.status_code == status
    assert ("Allow" in reply.headers) == (status == 405)
    assert bool(reply.content) == (method != "HEAD")


# --- engine errors ----------------------------------------------------------------------------

QUOTA = EngineError("no quota left", status=429, code="insufficient_quota", retry_after=26.5)


def test_the_gemini_dialect_hides_an_upstream_error_in_a_500() -> None:
    """The status, the words and the wait are in the message, where the real site has them."""
    with Gateway(Fake(then=QUOTA)) as gateway:
        reply = ask(gateway, signed())
    message = reply.json()["error"]["message"]
    assert reply.status_code == 500
    assert message.startswith("[GoogleGenerativeAI Error]: ")
    assert "[429 Too Many Requests] no quota left" in message
    error = error_from_response(reply.status_code, reply.headers, reply.content, Site())
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 27


def test_the_openai_dialect_passes_an_upstream_error_on() -> None:
    """The status and the code are the upstream's own."""
    with Gateway(Fake(then=QUOTA)) as gateway:
        reply = ask(gateway, signed(dialect=OPENAI))
    assert reply.status_code == 429
    assert reply.json()["error"]["code"] == "insufficient_quota"
    assert reply.headers["Retry-After"] == "27"


@DIALECTS
def test_a_refused_conversation_is_a_400(dialect: Dialect) -> None:
    """What the engine refuses because of the question is the question's fault in both dialects."""
    with Gateway(Fake(then=EngineError("too long", status=400))) as gateway:
        reply = ask(gateway, signed(dialect=dialect))
    error = error_from_response(reply.status_code, reply.headers, reply.content, Site())
    assert isinstance(error, BadRequestError)
    assert "too long" in str(error)


@pytest.mark.parametrize("bug", [ZeroDivisionError("Hello"), OSError("Hello"), SystemExit(3)])
def test_a_bug_in_an_engine_is_a_500_and_in_the_log(
    caplog: pytest.LogCaptureFixture, bug: BaseException
) -> None:
    """The client learns nothing of it; the log has the traceback."""
    with Gateway(Fake(then=bug)) as gateway:
        reply = ask(gateway, signed(dialect=OPENAI))
    assert reply.status_code == 500
    assert "Hello" not in reply.text
    assert [record.exc_info is not None for record in caplog.records] == [True]


@pytest.mark.parametrize("failure", [EngineError("no"), ZeroDivisionError()])
def test_an_answer_that_breaks_off_looks_broken(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    """The words so far arrive, then the connection breaks; only a bug makes a traceback."""
    with Gateway(Fake("so", " far", then=failure)) as gateway:
        with ask(gateway, signed(), stream=True) as reply:
            got: list[bytes] = []
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                got.extend(reply.iter_content(None))
        assert read_all(send(gateway, signed())).endswith(b" far\r\n")
    assert capfd.readouterr().err == ""
    assert len(caplog.records) == (2 if isinstance(failure, ZeroDivisionError) else 0)


def test_a_piece_that_is_not_text_breaks_the_answer_only() -> None:
    """An engine that yields bytes spoils its own answer, and not the next one."""
    engine = Fake(b"bytes")  # type: ignore[arg-type]
    with Gateway(engine) as gateway:
        assert ask(gateway, signed()).status_code == 500
        engine.words = ("text",)
        assert ask(gateway, signed()).text == "text"


# --- clients that go, and clients that are too many --------------------------------------------


@pytest.mark.parametrize("words", [0, 1])
def test_a_client_that_goes_away_stops_the_engine(words: int) -> None:
    """Soon after the client has gone the engine is told, before the first word and after it."""
    engine = Gated("one", "two")
    with Gateway(engine) as gateway:
        connection = send(gateway, signed())
        assert engine.started.acquire(timeout=5)
        for _ in range(words):
            engine.gate.release()
            assert connection.recv(10)
        gone = time.monotonic()
        connection.close()
        assert engine.cancelled.wait(5)
        assert engine.closed.wait(5)
        assert time.monotonic() - gone < 0.5


def test_a_slow_reader_holds_the_engine_back() -> None:
    """An engine does not run ahead of a client that does not read."""
    said = 0

    class Endless(Fake):
        def speak(self) -> Iterator[str]:
            nonlocal said
            while not self.cancelled.is_set():
                said += 1
                yield "x" * 10_000

    engine = Endless()
    with Gateway(engine) as gateway:
        connection = send(gateway, signed())
        still = -1
        while still != said:
            still = said
            time.sleep(0.3)
        assert said * 10_000 < 20_000_000
        connection.close()
        assert engine.closed.wait(5)


def test_questions_beyond_the_limit_are_refused_at_once() -> None:
    """All streams in use is a 503 with a wait; the next free one takes the next question."""
    engine = Gated("done")
    with Gateway(engine, max_streams=2) as gateway:
        busy = [send(gateway, signed()) for _ in range(2)]
        for _ in busy:
            assert engine.started.acquire(timeout=5)
        replies = [ask(gateway, signed()) for _ in range(10)]
        assert {reply.status_code for reply in replies} == {503}
        assert replies[0].headers["Retry-After"] == "1"
        error = error_from_response(503, replies[0].headers, replies[0].content, Site())
        assert isinstance(error, OverloadedError)
        auth = requests.post(f"{gateway.url}/api/auth", json={"pass": None}, timeout=10)
        assert auth.json() == {"code": 0}
        for _ in range(3):
            engine.gate.release()
        assert read_all(busy[0]).endswith(b"done\r\n0\r\n\r\n")
        assert ask(gateway, signed()).text == "done"
        assert read_all(busy[1]).endswith(b"done\r\n0\r\n\r\n")


def test_all_streams_run_at_the_same_time() -> None:
    """`max_streams` questions are all in the engine before the first one is answered."""
    engine = Gated("x")
    with Gateway(engine, max_streams=32) as gateway:
        busy = [send(gateway, signed()) for _ in range(32)]
        for _ in busy:
            assert engine.started.acquire(timeout=5)
        for _ in busy:
            engine.gate.release()
        assert all(read_all(each).endswith(b"x\r\n0\r\n\r\n") for each in busy)


# --- the log ----------------------------------------------------------------------------------

Ask = Callable[[Gateway], object]


@pytest.mark.parametrize(
    ("question", "line"),
    [
        (lambda g: ask(g, signed("topsecret")), r"POST /api/generate 200, 2 chunks, \d+\.\d+ s"),
        (lambda g: ask(g, signed("topsecret", sign="topsecret")), "POST /api/generate 401, 0 "),
        (lambda g: ask(g, signed(password="topsecret")), "POST /api/generate 200, 2 chunks"),
        (lambda g: requests.get(g.url + "/a%0Ab", timeout=10), "GET /a b 404, "),
    ],
)
def test_every_request_is_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture, question: Ask, line: str
) -> None:
    """Who, what, how it went and how long; never a text, a password or a signature."""
    caplog.set_level(logging.INFO, "aichatfree.gateway")
    with Gateway(Fake("one", "two")) as gateway:
        question(gateway)
    (message,) = caplog.messages
    assert message.startswith("127.0.0.1 ")
    assert "topsecret" not in message
    assert re.search(line, message), message


def test_a_broken_answer_is_marked_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Its line says that it broke off, with the engine's status."""
    caplog.set_level(logging.INFO, "aichatfree.gateway")
    with Gateway(Fake("x", then=EngineError("no", status=502))) as gateway:
        read_all(send(gateway, signed()))
    (message,) = caplog.messages
    assert message.endswith(", broken off: 502")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (QUOTA, "429 insufficient_quota"),
        (EngineError("topsecret", status=400, code="topsecret is no name"), "400"),
        (ZeroDivisionError("topsecret"), r"500 \(ZeroDivisionError\)"),
    ],
)
def test_the_log_says_why_there_was_no_answer(
    caplog: pytest.LogCaptureFixture, error: Exception, why: str
) -> None:
    """With the model's status and code; not in its words, which may repeat the question."""
    caplog.set_level(logging.INFO, "aichatfree.gateway")
    with Gateway(Fake(then=error)) as gateway:
        assert ask(gateway, signed()).status_code in (400, 500)
    message = caplog.messages[-1]
    assert re.search(rf" s, the model: {why}$", message), message
    assert "topsecret" not in message


def test_the_log_says_why_a_server_was_not_reached(caplog: pytest.LogCaptureFixture) -> None:
    """Whether nothing listens there, or the name is wrong, or the network is down."""
    caplog.set_level(logging.INFO, "aichatfree.gateway")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
    with Gateway(OpenAIUpstream(url, "tiny", "topsecret")) as gateway:
        assert ask(gateway, signed()).status_code == 500
    (message,) = caplog.messages
    assert message.endswith(", the model: 500 fetch (ECONNREFUSED)")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"port": 70000}, ValueError),
        ({"port": "8000"}, TypeError),
        ({"max_streams": 1.5}, TypeError),
        ({"max_streams": 0}, ValueError),
        ({"max_streams": 100_000}, ValueError),
        ({"max_body": 2**63}, ValueError),
        ({"time_window": float("nan")}, ValueError),
        ({"engine": 5}, TypeError),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    """Nothing is bound or started with them."""
    with pytest.raises(error):
        Gateway(**arguments)
