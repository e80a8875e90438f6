"""Whatever a client sends, it gets a refusal, and the next client an answer."""

from __future__ import annotations

import io
import json
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from aichatfree._protocol.dialects import GEMINI
from aichatfree._protocol.prompts import messages_from
from aichatfree._protocol.signing import generate_signature, request_body
from aichatfree._protocol.sites import Site
from aichatfree.gateway import Gateway
from aichatfree.gateway._app import App
from helpers import Echo


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(Echo(), max_body=100_000) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def the_next_one_is_served(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After each of these tests, an honest question is answered and nothing has been logged."""
    caplog.set_level(logging.WARNING)
    yield
    body = request_body(Site(), messages_from("still there?", None, GEMINI), now=time.time())
    assert post(gateway, body).text == "still there?"
    assert caplog.records == []


def post(gateway: Gateway, body: Any, path: str = "/api/generate") -> requests.Response:
    return requests.post(gateway.url + path, data=body, timeout=10)


def raw(gateway: Gateway, sent: bytes) -> bytes:
    """What comes back for these bytes, up to the end of the connection or of the first block."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(sent)
        return connection.recv(65536)


MESSAGES = [{"role": "user", "parts": [{"text": "Hello"}]}]
HONEST: dict[str, Any] = {
    "messages": MESSAGES,
    "time": 1_700_000_000_000,
    "pass": None,
    "sign": generate_signature(1_700_000_000_000, "Hello"),
}


def changed(**keys: Any) -> str:
    return json.dumps({**HONEST, **keys})


def test_the_honest_request_of_these_tests_is_answered(gateway: Gateway) -> None:
    """The tests below each spoil this one."""
    assert post(gateway, changed()).text == "Hello"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"\xff\xfe\x00",
        b"\x80abc",
        b"[" * 90_000,
        b'{"messages":' * 5_000 + b"1",
        b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
        changed(time=1).replace('"time": 1', '"time": ' + "9" * 5_000),
        changed(time=1).replace('"time": 1', '"time": NaN'),
        changed(time=1).replace('"time": 1', '"time": -Infinity'),
        changed(time=1).replace('"time": 1', '"time": 1e999'),
        changed(temperature=1).replace('"temperature": 1', '"temperature": NaN'),
    ],
    ids=lambda body: str(body[-20:]),
)
@pytest.mark.parametrize("path", ["/api/generate", "/api/auth"])
def test_a_body_that_is_no_request_is_refused(
    gateway: Gateway, body: bytes | str, path: str
) -> None:
    """It is a 4xx with a sentence; `/api/auth` only minds what is not a JSON object."""
    reply = post(gateway, body, path)
    assert 400 <= reply.status_code < 500 or (path == "/api/auth" and "1e999" in str(body))
    assert reply.text


WRONG: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    "\ud83d",
    [],
    [[]],
    {},
    {"a": {}},
    [None],
    [0],
    [{}],
]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("key", ["messages", "time", "sign"])
def test_a_field_of_the_wrong_type_is_refused(gateway: Gateway, key: str, value: object) -> None:
    """Whatever stands there instead, it is a 400 or a 401 with a sentence."""
    reply = post(gateway, changed(**{key: value}))
    assert reply.status_code in (400, 401)
    assert reply.json()["error"]["message"].endswith(".")


@pytest.mark.parametrize("key", ["messages", "time", "sign"])
def test_a_missing_field_is_refused(gateway: Gateway, key: str) -> None:
    """Leaving a field out is no way in."""
    reply = post(gateway, json.dumps({k: v for k, v in HONEST.items() if k != key}))
    assert reply.status_code in (400, 401)


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_message_of_the_wrong_shape_is_refused(gateway: Gateway, value: object) -> None:
    """So is a wrong role, a wrong text, a wrong part."""
    shapes: list[Any] = [
        [{"role": value, "parts": [{"text": "Hello"}]}],
        [{"role": "user", "parts": value}],
        [{"role": "user", "parts": [value]}],
        [*MESSAGES, value],
        [value, *MESSAGES],
        [{"role": value, "content": "Hello"}],
    ]
    if not isinstance(value, str):
        shapes.append([{"role": "user", "parts": [{"text": value}]}])
        shapes.append([{"role": "user", "content": value}])
    for messages in shapes:
        assert post(gateway, changed(messages=messages)).status_code == 400, messages


@pytest.mark.parametrize("value", [True, 0, [], {}])
def test_a_password_that_is_no_text_is_refused(gateway: Gateway, value: object) -> None:
    """Even where no password is needed."""
    assert post(gateway, changed(**{"pass": value})).status_code == 400
    assert post(gateway, json.dumps({"pass": value}), "/api/auth").status_code == 400


@pytest.mark.parametrize("value", [True, "1", [], -1, 3, 10**400])
def test_a_senseless_temperature_is_refused(gateway: Gateway, value: object) -> None:
    """Only the openai dialect has one, and it goes from 0 to 2."""
    messages = [{"role": "user", "content": "Hello"}]
    assert post(gateway, changed(messages=messages, temperature=value)).status_code == 400
    assert post(gateway, changed(temperature=value)).status_code == 200


@pytest.mark.parametrize("size", [100_001, 10_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_a_413(gateway: Gateway, size: int, chunked: bool) -> None:
    """The client gets to read the refusal, although it was still sending."""
    body = changed(padding="x" * size).encode()
    pieces = (body[i : i + 65536] for i in range(0, len(body), 65536))
    reply = post(gateway, pieces if chunked else body)
    assert reply.status_code == 413
    assert "100000 bytes" in reply.text


def test_a_body_without_end_is_cut_off(gateway: Gateway) -> None:
    """Far beyond the limit the gateway stops reading."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"POST /api/generate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall((b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n") * 100)


def test_a_chunked_request_is_understood(gateway: Gateway) -> None:
    """Clients may send their question in chunks."""
    assert post(gateway, iter([changed().encode()[:50], changed().encode()[50:]])).text == "Hello"


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /api/generate HTTP/1.1\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"POST /api/generate HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/generate HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /api/generate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/generate HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /api/generate HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    ],
    ids=lambda sent: str(sent[:30]),
)
def test_malformed_http_is_a_4xx(gateway: Gateway, sent: bytes) -> None:
    """It is refused with a status, and without a traceback in the log."""
    assert raw(gateway, sent).split(b" ")[1][:1] == b"4"


def test_a_coded_request_is_told_what_is_understood(gateway: Gateway) -> None:
    """A coding other than chunks is refused by name, not as if there were no such address."""
    reply = requests.post(gateway.url, headers={"Transfer-Encoding": "gzip"}, timeout=10)
    assert reply.status_code == 400
    assert "The only Transfer-Encoding taken here is chunked." in reply.text


def test_half_open_connections_disturb_nobody(gateway: Gateway) -> None:
    """Three hundred clients that stop in the middle of their request are just there."""
    host, port = gateway.url.removeprefix("http://").split(":")
    starts = [b"", b"POST /api/gen", b"POST /api/generate HTTP/1.1\r\nContent-Length: 50\r\n\r\n{"]
    stuck = []
    try:
        for number in range(300):
            stuck.append(socket.create_connection((host, int(port)), timeout=5))
            stuck[-1].sendall(starts[number % 3])
        started = time.monotonic()
        assert post(gateway, changed()).text == "Hello"
        assert time.monotonic() - started < 2
    finally:
        for connection in stuck:
            connection.close()


# --- any body at all --------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["user", "model", "Hello", HONEST["sign"], MESSAGES]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "parts", "text", "content", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
KEYS = st.sampled_from([*HONEST, "temperature", "model"])
NEARLY_HONEST = st.dictionaries(KEYS, JSON, max_size=3).map(lambda keys: changed(**keys).encode())
SPOILT = st.builds(
    lambda body, at, junk: body[: at % len(body)] + junk + body[at % len(body) + len(junk) :],
    NEARLY_HONEST,
    st.integers(0, 10_000),
    st.binary(max_size=3),
)


@settings(max_examples=500, deadline=None)
@given(body=st.binary(max_size=100) | NEARLY_HONEST | SPOILT)
def test_no_body_makes_the_gateway_fail(body: bytes) -> None:
    """Of hundreds of bodies each gives an answer or a refusal, never a 5xx or an exception."""
    app = App(Echo(), secret="", passwords=[], time_window=None, max_streams=2, max_body=100_000)
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/api/generate",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(body),
    }
    reply = app(environ, lambda status, headers: statuses.append(status))
    text = b"".join(reply)
    assert text
    assert statuses[0][:3] in {"200", "400", "401"}
    if hasattr(reply, "close"):
        reply.close()
