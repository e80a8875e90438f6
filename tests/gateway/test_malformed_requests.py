"""Malformed requests: each is refused, and the next client is served."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from aichatfree.gateway import Gateway
from helpers import AT_ONCE, Echo, signature, signed_body

from .connections import connect, post


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(Echo(), max_body=100_000) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def the_next_client_is_served(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After each test a valid question is answered, and nothing has been logged as a problem."""
    caplog.set_level(logging.WARNING)
    yield
    assert post(gateway, signed_body("still there?")).text == "still there?"
    assert caplog.records == []


MESSAGES = [{"role": "user", "parts": [{"text": "Hello"}]}]
MOMENT = 1_700_000_000_000
VALID: dict[str, Any] = {
    "messages": MESSAGES,
    "time": MOMENT,
    "pass": None,
    "sign": signature(MOMENT, "Hello"),
}


def changed(**fields: Any) -> str:
    """The valid body with other fields."""
    return json.dumps({**VALID, **fields})


def test_the_valid_body_is_answered(gateway: Gateway) -> None:
    """The body that the other tests of this module change is valid."""
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
        changed(time=1).replace('"time": 1', '"time": ' + "9" * 5_000),
        changed(time=1).replace('"time": 1', '"time": NaN'),
        changed(time=1).replace('"time": 1', '"time": -Infinity'),
        changed(temperature=1).replace('"temperature": 1', '"temperature": NaN'),
    ],
    ids=lambda body: str(body[-20:]),
)
@pytest.mark.parametrize("path", ["/api/generate", "/api/auth"])
def test_a_body_that_is_not_a_json_object_is_refused(
    gateway: Gateway, body: bytes | str, path: str
) -> None:
    """A body that is not JSON, or another JSON value than an object, gives a 400 with a reason."""
    response = post(gateway, body, path)
    assert response.status_code == 400
    assert response.json()["error"]["message"].endswith(".")


DEEP = pytest.mark.parametrize(
    "body",
    [
        b"[" * 90_000,
        b'{"messages":' * 5_000 + b"1",
        b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
        b'{"messages":' + b"[" * 40_000 + b"]" * 40_000 + b"}",
        b'{"messages":[' + b'{"parts":[' * 7_000 + b"]}" * 7_000 + b"]}",
    ],
    ids=lambda body: str(body[:20]),
)


@DEEP
def test_a_deeply_nested_question_is_refused(gateway: Gateway, body: bytes) -> None:
    """JSON nested thousands of levels deep gives a 400, whether or not Python can parse it."""
    response = post(gateway, body)
    assert response.status_code == 400
    assert response.json()["error"]["message"].endswith(".")


@DEEP
def test_a_deeply_nested_login_is_refused_or_read(gateway: Gateway, body: bytes) -> None:
    """`/api/auth` ignores unknown fields, so that deep JSON gives a 400 or is answered."""
    assert post(gateway, body, "/api/auth").status_code in (200, 400)


def test_an_infinite_time_is_refused(gateway: Gateway) -> None:
    """A number that is too large for a float gives a 401 instead of an error of the gateway."""
    body = changed(time=1).replace('"time": 1', '"time": 1e999')
    assert post(gateway, body).status_code == 401


WRONG_VALUES: list[Any] = [
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


@pytest.mark.parametrize("value", WRONG_VALUES, ids=repr)
@pytest.mark.parametrize("key", ["messages", "time", "sign"])
def test_a_field_of_the_wrong_type_is_refused(gateway: Gateway, key: str, value: object) -> None:
    """A field whose value has the wrong JSON type gives a 400 or a 401 with a reason."""
    response = post(gateway, changed(**{key: value}))
    assert response.status_code in (400, 401)
    assert response.json()["error"]["message"].endswith(".")


@pytest.mark.parametrize("key", ["messages", "time", "sign"])
def test_a_missing_field_is_refused(gateway: Gateway, key: str) -> None:
    """A question without messages, time or signature gives a 400 or a 401."""
    response = post(gateway, json.dumps({k: v for k, v in VALID.items() if k != key}))
    assert response.status_code in (400, 401)


@pytest.mark.parametrize("value", WRONG_VALUES, ids=repr)
def test_a_message_of_the_wrong_shape_is_refused(gateway: Gateway, value: object) -> None:
    """A message with a wrong role, text or part, or that is not an object, gives a 400."""
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
def test_a_password_that_is_not_text_is_refused(gateway: Gateway, value: object) -> None:
    """A password that is neither a string nor null gives a 400, even if none is needed."""
    assert post(gateway, changed(**{"pass": value})).status_code == 400
    assert post(gateway, json.dumps({"pass": value}), "/api/auth").status_code == 400


@pytest.mark.parametrize("value", [True, "1", [], -1, 3, 10**400])
def test_a_wrong_temperature_is_refused_in_the_openai_dialect(
    gateway: Gateway, value: object
) -> None:
    """A temperature that is not a number from 0 to 2 gives a 400."""
    messages = [{"role": "user", "content": "Hello"}]
    assert post(gateway, changed(messages=messages, temperature=value)).status_code == 400


def test_a_wrong_temperature_is_ignored_in_the_gemini_dialect(gateway: Gateway) -> None:
    """Sites of the gemini dialect do not read the temperature, and neither does the gateway."""
    assert post(gateway, changed(temperature="hot")).text == "Hello"


@pytest.mark.parametrize("size", [100_001, 10_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_a_413(gateway: Gateway, size: int, chunked: bool) -> None:
    """A client can read the 413 with the limit, although its body is larger than that."""
    body = changed(padding="x" * size).encode()
    chunks = (body[i : i + 65536] for i in range(0, len(body), 65536))
    response = post(gateway, chunks if chunked else body)
    assert response.status_code == 413
    assert "100000 bytes" in response.text


def test_a_connection_with_an_endless_body_is_closed(gateway: Gateway) -> None:
    """Far beyond the limit the gateway stops reading and closes the connection."""
    with connect(gateway) as connection:
        connection.sendall(
            b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall((b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n") * 100)


def test_a_chunked_request_is_understood(gateway: Gateway) -> None:
    """A request with a chunked body is answered like any other."""
    assert post(gateway, iter([changed().encode()[:50], changed().encode()[50:]])).text == "Hello"


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    ],
    ids=lambda sent: str(sent[:30]),
)
def test_malformed_http_is_a_4xx(gateway: Gateway, sent: bytes) -> None:
    """A request that is not HTTP, or not supported, gets a status 4xx."""
    with connect(gateway) as connection:
        connection.sendall(sent)
        assert connection.recv(65536).split(b" ")[1][:1] == b"4"


def test_an_unsupported_transfer_encoding_is_refused_by_name(gateway: Gateway) -> None:
    """A transfer encoding other than chunked gives a 400 that names the header."""
    response = requests.post(gateway.url, headers={"Transfer-Encoding": "gzip"}, timeout=10)
    assert response.status_code == 400
    assert "Transfer-Encoding" in response.text


def test_incomplete_requests_do_not_delay_others(gateway: Gateway) -> None:
    """While 300 clients have sent a part of their request, others are answered at once."""
    starts = [
        b"",
        b"POST /api/gen",
        b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
    ]
    with ExitStack() as stack:
        for number in range(300):
            stack.enter_context(connect(gateway)).sendall(starts[number % 3])
        started = time.monotonic()
        assert post(gateway, changed()).text == "Hello"
        assert time.monotonic() - started < AT_ONCE
