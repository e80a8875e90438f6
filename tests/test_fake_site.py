from __future__ import annotations

import hashlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from typing import Any

import pytest

from aichatfree.testing import Answer, FakeSite, Raw, Request

CLOSE = {"Connection": "close"}

clients: list[HTTPConnection | HTTPResponse | socket.socket] = []


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    while clients:
        clients.pop().close()


def connect(site: FakeSite) -> HTTPConnection:
    connection = HTTPConnection(site.url.removeprefix("http://"), timeout=5)
    clients.append(connection)
    return connection


def post(connection: HTTPConnection, text: str = "Hi", **body: Any) -> HTTPResponse:
    body = {"messages": [{"role": "user", "parts": [{"text": text}]}], **body}
    connection.request("POST", "/api/generate", json.dumps(body))
    response = connection.getresponse()
    clients.append(response)
    return response


def ask(site: FakeSite, text: str = "Hi", **body: Any) -> tuple[int, str]:
    response = post(connect(site), text, **body)
    return response.status, response.read().decode()


def raw_socket(site: FakeSite) -> socket.socket:
    host, _, port = site.url.removeprefix("http://").partition(":")
    sock = socket.create_connection((host, int(port)), timeout=5)
    clients.append(sock)
    return sock


def raw_post(site: FakeSite, version: str = "HTTP/1.1") -> socket.socket:
    sock = raw_socket(site)
    sock.sendall(f"POST /api/generate {version}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    return sock


def reads(sock: socket.socket) -> Iterator[bytes]:
    while data := sock.recv(65536):
        yield data


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        received += sock.recv(65536)
    return received


def body_on_the_wire(site: FakeSite, version: str = "HTTP/1.1") -> bytes:
    return b"".join(reads(raw_post(site, version))).partition(b"\r\n\r\n")[2]


# The script


def test_answers_come_in_the_order_of_the_script_and_the_last_repeats() -> None:
    """Each prompt takes the next item, and the last item repeats."""
    with FakeSite(["one", Answer("two")]) as site:
        assert [ask(site)[1] for _ in range(4)] == ["one", "two", "two", "two"]


def test_a_single_item_is_a_script() -> None:
    """A script may be one str, which is not taken apart into letters."""
    with FakeSite("Hello") as site:
        assert ask(site) == (200, "Hello")


def test_an_endless_script_is_taken_item_by_item() -> None:
    """A script is read as it is used, so it may be endless."""
    with FakeSite(str(n) for n in itertools.count()) as site:
        assert [ask(site)[1] for _ in range(3)] == ["0", "1", "2"]


def test_a_callable_answers_from_the_request() -> None:
    """A callable in the script is given the request and makes the answer."""
    with FakeSite(lambda request: request.text.upper()) as site:
        assert ask(site, "echo")[1] == "ECHO"


def test_requests_are_recorded_in_the_order_in_which_they_take_items() -> None:
    """The n-th recorded prompt is the one that took the n-th item, whatever the threads."""
    answers: dict[str, str] = {}

    def take(text: str) -> None:
        answers[text] = ask(site, text)[1]

    with FakeSite(str(n) for n in itertools.count()) as site:
        threads = [threading.Thread(target=take, args=(f"prompt {n}",)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [answers[request.text] for request in site.requests] == [str(n) for n in range(20)]


def test_an_error_in_a_callable_is_a_500_and_is_raised_at_the_end() -> None:
    """What a callable raises reaches the client as a 500 and the test at the end of the block."""

    def fail(request: Request) -> str:
        raise KeyError("broken script")

    with pytest.raises(KeyError, match="broken script"), FakeSite(fail) as site:
        answer = ask(site)
    assert answer == (500, "FakeSite's script failed: KeyError('broken script')")


def test_an_error_in_a_stream_breaks_off_the_answer_and_is_raised_at_the_end() -> None:
    """What a stream raises cuts the answer and is raised at the end of the block."""

    def fail() -> Iterator[str]:
        yield "Hel"
        raise OSError("broken stream")

    answer = Answer(stream=fail(), headers=CLOSE)
    with pytest.raises(OSError, match="broken stream"), FakeSite(answer) as site:
        assert body_on_the_wire(site) == b"3\r\nHel\r\n"


def test_the_error_of_the_block_is_not_hidden_by_that_of_the_script() -> None:
    """An error of the block itself comes out, not the script's."""
    with pytest.raises(AssertionError), FakeSite(lambda request: [][0]) as site:
        assert ask(site) == (200, "Hello")


def test_an_item_of_another_type_is_reported() -> None:
    """An item that is no answer is a TypeError at the end of the block."""
    with pytest.raises(TypeError, match="42"), FakeSite(lambda _: 42) as site:  # type: ignore
        ask(site)


# The record


def test_a_request_is_recorded_whole() -> None:
    """A recorded request has its method, path, headers, body, text, time and connection."""
    before = time.monotonic()
    with FakeSite() as site:
        connection = connect(site)
        connection.request("POST", "/api/generate", b"not json", {"X-Name": "value"})
        connection.getresponse().read()
        post(connection, "Hi").read()
        ask(site, "Hi")
    first, second, third = site.requests
    assert (first.method, first.path, first.version) == ("POST", "/api/generate", "HTTP/1.1")
    assert first.headers["x-NAME"] == "value"
    assert (first.body, first.json, first.text) == (b"not json", None, "")
    assert second.json["messages"][0]["role"] == "user"
    assert before < first.received < second.received < time.monotonic()
    assert first.connection == second.connection != third.connection


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"parts": [{"text": "a"}, {"text": "b"}]}, "ab"),
        ({"content": "c"}, "c"),
        ({"parts": [{}]}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_text_is_that_of_the_last_message_in_either_dialect(message: Any, text: str) -> None:
    """The text is the last message's, in either dialect, and empty if there is none."""
    with FakeSite() as site:
        ask(site, messages=[{"content": "earlier"}, message])
    assert site.requests[0].text == text


def test_a_chunked_request_is_read() -> None:
    """A request body may come chunked."""
    with FakeSite() as site:
        connection = connect(site)
        connection.request("POST", "/api/generate", iter([b"[1,", b" 2]"]))
        connection.getresponse().read()
    assert site.requests[0].json == [1, 2]


def test_recording_can_be_switched_off() -> None:
    """With record=False nothing is kept."""
    with FakeSite(record=False) as site:
        assert ask(site) == (200, "Hello")
    assert site.requests == []


# The fixed answers


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type"),
    [
        ("GET", "/", 200, "text/html"),
        ("POST", "/", 200, "text/html"),
        ("GET", "/api/generate", 404, "text/plain; charset=utf-8"),
        ("POST", "/elsewhere", 404, "text/plain; charset=utf-8"),
    ],
)
def test_other_paths(method: str, path: str, status: int, content_type: str) -> None:
    """The root is a web page and other paths are not found; neither takes an item."""
    with FakeSite(["first", "second"]) as site:
        connection = connect(site)
        connection.request(method, path)
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Type"]) == (status, content_type)
        response.read()
        assert ask(site)[1] == "first"


@pytest.mark.parametrize(
    ("password", "sent", "code"), [("p", "p", 0), ("p", "q", -1), ("p", None, -1), (None, "q", 0)]
)
def test_auth_tells_whether_the_password_is_right(
    password: str | None, sent: str | None, code: int
) -> None:
    """/api/auth answers code 0 for the right password and -1 for another."""
    with FakeSite(password=password) as site:
        connection = connect(site)
        connection.request("POST", "/api/auth", json.dumps({"pass": sent}))
        assert json.load(connection.getresponse()) == {"code": code}


def signed(text: str, moment: object, **body: Any) -> dict[str, Any]:
    sign = hashlib.sha256(f"{moment}:{text}:s".encode()).hexdigest()
    return {"time": moment, "pass": "p", "sign": sign, **body}


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (signed("Hi", 1700000000000), 200, "Hello"),
        (signed("Hi", 1700000000000, time=1), 401, "signature"),
        (signed("Hi", 1700000000000, sign=None), 401, "signature"),
        (signed("Hi", 1700000000000, **{"pass": "q", "sign": ""}), 401, "password"),
        (signed("Hi", 1700000000000.0), 401, "signature"),
        (signed("Hi", 1700000000123456789), 401, "signature"),
    ],
    ids=["right", "other-time", "unsigned", "password-first", "float-time", "nanoseconds"],
)
def test_verify_refuses_what_a_real_site_refuses(
    body: dict[str, Any], status: int, word: str
) -> None:
    """With verify=True the password is checked, then the signature, as real sites do."""
    with FakeSite(secret="s", password="p", verify=True) as site:
        answer = ask(site, "Hi", **body)
    assert answer[0] == status
    assert word in answer[1]


def test_a_lone_surrogate_is_signed_as_the_replacement_character() -> None:
    """A lone surrogate counts as U+FFFD in the signature and in an echo."""
    with FakeSite(lambda request: request.text, secret="s", verify=True) as site:
        assert ask(site, "a\ud800", **signed("a\ufffd", 1)) == (200, "a\ufffd")


def test_verify_answers_an_unreadable_body_with_an_empty_500() -> None:
    """A body that is no JSON object is a 500 without a word."""
    with FakeSite(verify=True) as site:
        assert body_on_the_wire(site, "HTTP/1.0") == b""


def test_the_clock_of_the_site_can_be_wrong() -> None:
    """clock_offset shifts the Date header."""
    with FakeSite(clock_offset=-3600) as site:
        date = parsedate_to_datetime(post(connect(site)).headers["Date"])
    assert date.timestamp() == pytest.approx(time.time() - 3600, abs=5)


# Answers on the wire


def test_each_chunk_is_an_http_chunk() -> None:
    """A chunked answer has one HTTP chunk for each chunk that is not empty."""
    with FakeSite(Answer("é", "", b"\xff", headers=CLOSE)) as site:
        assert body_on_the_wire(site) == b"2\r\n\xc3\xa9\r\n1\r\n\xff\r\n0\r\n\r\n"


def test_headers_replace_defaults_of_the_same_name() -> None:
    """Given headers replace those of the same name in any case; the type can be left out."""
    quota = Answer(status=429, body="{}", headers={"date": "never", "Retry-After": "1"})
    with FakeSite([quota, Answer(content_type=None)]) as site:
        response = post(connect(site))
        assert (response.status, response.reason) == (429, "Too Many Requests")
        assert response.headers.get_all("Date") == ["never"]
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Content-Length"] == "2"
        assert "Content-Type" not in post(connect(site)).headers


def test_close_framing_ends_with_the_connection() -> None:
    """With framing="close" the body is bare and ends with the connection."""
    with FakeSite(Answer("Hel", "lo", framing="close")) as site:
        assert body_on_the_wire(site) == b"Hello"


def test_an_http_1_0_client_gets_no_chunks() -> None:
    """An answer in chunks is bare for an HTTP/1.0 client."""
    with FakeSite(Answer("Hel", "lo")) as site:
        assert body_on_the_wire(site, "HTTP/1.0") == b"Hello"


def test_tail_is_a_chunk_of_its_own_before_a_clean_end() -> None:
    """end="tail" adds the servers' failure text as the last chunk."""
    with FakeSite(Answer("Hi", end="tail", headers=CLOSE)) as site:
        assert body_on_the_wire(site) == b"2\r\nHi\r\n15\r\nInternal server error\r\n0\r\n\r\n"


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_cut_answer_is_incomplete(framing: Any) -> None:
    """end="cut" closes the connection after the chunks, before the end of the body."""
    with (
        FakeSite(Answer("Hel", "lo", framing=framing, end="cut")) as site,
        pytest.raises(IncompleteRead) as error,
    ):
        ask(site)
    assert error.value.partial == b"Hello"


def test_a_reset_answer_resets_the_connection() -> None:
    """end="reset" is a TCP reset."""
    with FakeSite(Answer("Hello", end="reset")) as site, pytest.raises(ConnectionResetError):
        ask(site)


def test_a_stalled_answer_is_silent_until_the_site_stops() -> None:
    """end="stall" sends the chunks and then nothing, and does not hold up the site's end."""
    with FakeSite(Answer("Hello", end="stall")) as site:
        response = post(connect(site))
        assert response.read(5) == b"Hello"
        assert not site.requests[0].disconnected.wait(0.05)
    assert not site.requests[0].disconnected.is_set()


def test_split_sends_few_bytes_at_a_time() -> None:
    """split=n sends the response n bytes at a time."""
    with FakeSite(Answer("Привет", headers=CLOSE, split=3)) as site:
        pieces = list(reads(raw_post(site)))
    assert len(pieces) > 1  # a busy machine joins some of them
    assert b"".join(pieces).endswith(b"\r\n\r\nc\r\n" + "Привет".encode() + b"\r\n0\r\n\r\n")


def test_delay_comes_before_the_headers_and_gap_between_chunks() -> None:
    """Silence falls before the headers and between chunks, for as long as asked."""
    with FakeSite(Answer("a", "b", "c", delay=0.1, gap=0.05, headers=CLOSE)) as site:
        start = time.monotonic()
        sock = raw_post(site)
        times = []
        for chunk in (b"\r\na\r\n", b"\r\nb\r\n", b"\r\nc\r\n"):
            read_until(sock, chunk)
            times.append(time.monotonic() - start)
    for elapsed, expected in zip(times, (0.1, 0.15, 0.2), strict=True):
        assert expected - 0.01 < elapsed < expected + 0.3


def test_a_stream_may_be_endless() -> None:
    """A stream is sent as it is made, and iterated anew for each request."""
    with FakeSite(Answer(stream=itertools.repeat("na "))) as site:
        for _ in range(2):
            connection = connect(site)
            with post(connection) as response:
                assert response.read(9) == b"na na na "
            connection.close()
        assert all(request.disconnected.wait(2) for request in site.requests)


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_raw_sends_exact_bytes(end: Any) -> None:
    """Raw replaces the whole response with its bytes."""
    received = b""
    with FakeSite(Raw(b"HTTP/1.1 2", b"00 O", gap=0.02, end=end)) as site:
        try:
            for data in reads(raw_post(site)):
                received += data
            assert end == "cut"
        except ConnectionResetError:
            assert end == "reset"
    assert received == b"HTTP/1.1 200 O"


def test_raw_with_a_clean_end_goes_on_to_the_next_request() -> None:
    """After Raw(end="clean") the connection serves another request."""
    whole = Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", end="clean")
    with FakeSite([whole, "Hello"]) as site:
        connection = connect(site)
        assert [post(connection).read() for _ in range(2)] == [b"ok", b"Hello"]


# Connections


@pytest.mark.parametrize(
    "answer",
    [
        Answer("Hello", end="stall"),
        Answer("Hello", "again", gap=60),
        Answer(stream=itertools.repeat("Hello")),
        Raw(b"HTTP/1.1 200 OK\r\n\r\nHello", end="stall"),
    ],
    ids=["stall", "gap", "busy", "raw"],
)
def test_a_client_that_leaves_early_is_noticed(answer: Answer | Raw) -> None:
    """The request of a client that leaves before the end is marked at once."""
    with FakeSite(answer) as site:
        with raw_post(site) as sock:
            read_until(sock, b"Hello")
            assert not site.requests[0].disconnected.is_set()
        assert site.requests[0].disconnected.wait(1)


def test_an_answer_that_came_whole_is_not_marked() -> None:
    """A client that leaves after the end of the answer is not marked."""
    with FakeSite() as site:
        ask(site)
    assert not site.requests[0].disconnected.is_set()


def test_idle_connections_are_closed() -> None:
    """A connection that waits for its next request longer than idle_timeout is closed."""
    with FakeSite(idle_timeout=0.05) as site:
        start = time.monotonic()
        list(reads(raw_post(site)))
        assert 0.04 < time.monotonic() - start < 1


@pytest.mark.parametrize("end", ["clean", "stall"])
def test_drop_connections_closes_them_at_once(end: Any) -> None:
    """drop_connections closes idle and busy connections, and new ones are served as before."""
    with FakeSite([Answer("Hello", end=end), "again"], idle_timeout=60) as site:
        sock = raw_post(site)
        read_until(sock, b"Hello")
        site.drop_connections()
        assert b"".join(reads(sock)) in (b"", b"0\r\n\r\n")
        assert ask(site)[1] == "again"
    assert not site.requests[0].disconnected.is_set()


def test_pipelined_requests_are_answered_in_turn() -> None:
    """A request that comes during a silence is kept for later."""
    with FakeSite([Answer("one", "", gap=0.05), Answer("two", headers=CLOSE)]) as site:
        sock = raw_post(site)
        sock.sendall(b"POST /api/generate HTTP/1.1\r\n\r\n")
        received = b"".join(reads(sock))
    assert received.index(b"one") < received.index(b"two")


def test_a_malformed_request_is_a_400() -> None:
    """What is not HTTP is refused with 400 and not recorded."""
    with FakeSite() as site:
        sock = raw_socket(site)
        sock.sendall(b"hello\r\n\r\n")
        assert b"".join(reads(sock)).startswith(b"HTTP/1.1 400 ")
    assert site.requests == []


def test_256_connections_at_once() -> None:
    """Hundreds of connections are served at the same time."""
    together = threading.Barrier(256, timeout=5)

    def meet(request: Request) -> str:
        together.wait()
        return "met"

    with FakeSite(meet) as site:
        socks = [raw_post(site, "HTTP/1.0") for _ in range(256)]
        assert all(b"".join(reads(sock)).endswith(b"met") for sock in socks)


@pytest.mark.parametrize("busy", [False, True])
def test_a_site_starts_and_stops_at_once_and_leaves_nothing(busy: bool) -> None:
    """A site starts and stops in milliseconds, and leaves no thread and no open port."""
    before = threading.enumerate()
    start = time.monotonic()
    with FakeSite(Answer("Hello", end="stall" if busy else "clean")) as site:
        socks = [raw_post(site) for _ in range(8)]
        assert all(read_until(sock, b"Hello") for sock in socks)
    assert time.monotonic() - start < 0.4
    assert threading.enumerate() == before
    with pytest.raises(ConnectionRefusedError):
        raw_socket(site)


# Mistakes of the caller


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Answer(framing="gzip"), "framing must be one of"),  # type: ignore[arg-type]
        (lambda: Answer(end="boom"), "end must be one of"),  # type: ignore[arg-type]
        (lambda: Answer(gap=-1), "gap must not be negative"),
        (lambda: Answer(delay=-1), "delay must not be negative"),
        (lambda: Answer(split=0), "split must be at least 1"),
        (lambda: Answer(status=100), "status must be from 200"),
        (lambda: Answer("a", body="b"), "the body once"),
        (lambda: Answer("a", stream=["b"]), "the body once"),
        (lambda: Answer(stream=["b"], framing="length"), "length is unknown"),
        (lambda: Raw(end="tail"), "end must be one of"),  # type: ignore[arg-type]
        (lambda: Raw(gap=-1), "gap must not be negative"),
        (lambda: FakeSite([]), "script is empty"),
        (lambda: FakeSite(idle_timeout=0), "idle_timeout must be positive"),
    ],
)
def test_a_bad_argument_is_refused_at_once(make: Callable[[], object], words: str) -> None:
    """A bad argument is a ValueError where it is given."""
    with pytest.raises(ValueError, match=words):
        make()
