"""Requests that two servers in a row might divide differently: the gateway finds one, or none."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from aichatfree.gateway import Gateway
from helpers import SHORT, Echo

from .connections import connect

SECOND = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
"""The request that an attacker hides in the body of another one; it must not be answered."""
NEXT = b"HEAD /v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""A request that is not hidden."""
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(SECOND)
LAST = b"0\r\n\r\n"
LONG = b"Content-Length: %d\r\n" % len(LAST + SECOND)
ONE_CHUNK = b"%x\r\n%b\r\n" % (len(SECOND), SECOND) + LAST


def head(*lines: bytes, start: bytes = b"POST /api/generate HTTP/1.1\r\n") -> bytes:
    return start + b"Host: x\r\n" + b"".join(lines) + b"\r\n"


REFUSED = {
    "length, then chunked": head(LONG, CHUNKED) + LAST + SECOND,
    "chunked, then length": head(CHUNKED, LENGTH) + ONE_CHUNK,
    "length and identity": head(LENGTH, b"Transfer-Encoding: identity\r\n") + SECOND,
    "length and an unknown coding": head(LENGTH, b"Transfer-Encoding: xchunked\r\n") + SECOND,
    "chunked, identity": head(b"Transfer-Encoding: chunked, identity\r\n") + ONE_CHUNK,
    "identity, chunked": head(b"Transfer-Encoding: identity, chunked\r\n") + ONE_CHUNK,
    "chunked twice": head(CHUNKED, CHUNKED) + ONE_CHUNK,
    "chunked, and identity": head(CHUNKED, b"Transfer-Encoding: identity\r\n") + ONE_CHUNK,
    "quoted chunked": head(LONG, b'Transfer-Encoding: "chunked"\r\n') + LAST + SECOND,
    "chunked with a parameter": head(LONG, b"Transfer-Encoding: chunked;q=1\r\n") + LAST + SECOND,
    "space before the colon": head(LONG, b"Transfer-Encoding : chunked\r\n") + LAST + SECOND,
    "tab before the colon": head(LONG, b"Transfer-Encoding\t: chunked\r\n") + LAST + SECOND,
    "vertical tab": head(LONG, b"Transfer-Encoding:\x0bchunked\r\n") + LAST + SECOND,
    "folded chunked": head(LONG, b"Transfer-Encoding:\r\n chunked\r\n") + LAST + SECOND,
    "chunked in two lines": head(LONG, b"Transfer-Encoding: chun\r\n ked\r\n") + LAST + SECOND,
    "chunked in HTTP/1.0": head(LONG, CHUNKED, start=b"POST /api/generate HTTP/1.0\r\n")
    + LAST
    + SECOND,
    "folded length": head(b"X: a\r\n " + LENGTH) + SECOND,
    "two lengths": head(b"Content-Length: 0\r\n", LENGTH) + SECOND,
    "one length twice": head(LENGTH, LENGTH) + SECOND,
    "list of lengths": head(b"Content-Length: 0, %d\r\n" % len(SECOND)) + SECOND,
    "list of one length": head(b"Content-Length: 0, 0\r\n") + SECOND,
    "length with a plus": head(b"Content-Length: +0\r\n") + SECOND,
    "negative length": head(b"Content-Length: -1\r\n") + SECOND,
    "hexadecimal length": head(b"Content-Length: 0x0\r\n") + SECOND,
    "length with a space": head(b"Content-Length: 0 0\r\n") + SECOND,
    "length with an underscore": head(b"Content-Length: 0_0\r\n") + SECOND,
    "empty length": head(b"Content-Length:\r\n") + SECOND,
    "Arabic length": head("Content-Length: ٠\r\n".encode()) + SECOND,
    "length beyond 64 bits": head(b"Content-Length: %d\r\n" % 2**64) + SECOND,
    "bare LF everywhere": head(LENGTH).replace(b"\r\n", b"\n") + SECOND,
    "bare LF in a header": head(LONG, b"X: a\nTransfer-Encoding: chunked\r\n") + LAST + SECOND,
    "bare CR in a header": head(LONG, b"X: a\rTransfer-Encoding: chunked\r\n") + LAST + SECOND,
    "NUL in a value": head(LENGTH, b"X: a\0b\r\n") + SECOND,
    "NUL in a name": head(LENGTH, b"X\0Y: a\r\n") + SECOND,
    "no colon": head(LENGTH, b"X\r\n") + SECOND,
    "empty name": head(LENGTH, b": x\r\n") + SECOND,
    "space before the first header": head(LENGTH).replace(b"Host", b" Host") + SECOND,
    "two hosts": head(LENGTH, b"Host: y\r\n") + SECOND,
    "one host twice": head(LENGTH, b"Host: x\r\n") + SECOND,
    "no host": head(LENGTH).replace(b"Host: x\r\n", b"") + SECOND,
    "hexadecimal chunk": head(CHUNKED) + b"0x0\r\n\r\n" + SECOND,
    "chunk with a plus": head(CHUNKED) + b"+0\r\n\r\n" + SECOND,
    "negative chunk": head(CHUNKED) + b"-1\r\n\r\n" + SECOND,
    "space before a chunk": head(CHUNKED) + b" 0\r\n\r\n" + SECOND,
    "space after a chunk": head(CHUNKED) + b"0 \r\n\r\n" + SECOND,
    "chunk beyond 64 bits": head(CHUNKED) + b"10000000000000000\r\n\r\n" + SECOND,
    "empty chunk size": head(CHUNKED) + b"\r\n\r\n" + SECOND,
    "chunk that is too long": head(CHUNKED) + b"1\r\nab\r\n" + LAST + SECOND,
    "chunks that end with LF": head(CHUNKED) + b"1\na\n0\n\n" + SECOND,
    "LF in a chunk extension": head(CHUNKED) + b"2;\nxx\r\n0\r\n\r\n" + SECOND,
    "CR in a chunk extension": pytest.param(
        head(CHUNKED) + b"0;a\rb\r\n\r\n" + SECOND,
        marks=pytest.mark.skipif(
            HttpRequestParser is HttpRequestParserPy,
            reason="aiohttp accepts it without its compiled parser",
        ),
    ),
    "unknown version": head(LENGTH, start=b"POST /api/generate HTTP/1.10\r\n") + SECOND,
    "HTTP/2.0": head(LENGTH, start=b"POST /api/generate HTTP/2.0\r\n") + SECOND,
    "lower-case version": head(LENGTH, start=b"POST /api/generate http/1.1\r\n") + SECOND,
    "HTTP/0.9": b"GET /v1/models\r\n" + SECOND,
    "space in the target": head(LENGTH, start=b"POST /a b HTTP/1.1\r\n") + SECOND,
    "NUL in the target": head(LENGTH, start=b"POST /a\0b HTTP/1.1\r\n") + SECOND,
    "CR in the target": head(LENGTH, start=b"POST /a\rb HTTP/1.1\r\n") + SECOND,
    "NUL in the method": head(LENGTH, start=b"PO\0ST / HTTP/1.1\r\n") + SECOND,
    "header before the method": b"X: a\r\n" + head(LENGTH) + SECOND,
    "trailers": head(CHUNKED) + ONE_CHUNK[:-2] + LENGTH + CHUNKED + b"\r\n",
    "tab": head(LENGTH, start=b"POST\t/api/generate HTTP/1.1\r\n") + SECOND,
    "CONNECT": head(LENGTH, start=b"CONNECT x:80 HTTP/1.1\r\n") + SECOND,
}
"""Refused with a 400, and the connection is closed."""

ONE = {
    "chunked": head(CHUNKED) + ONE_CHUNK,
    "upper-case chunked": head(b"TRANSFER-ENCODING: CHUNKED\r\n") + ONE_CHUNK,
    "leading zero": head(b"Content-Length: 0%d\r\n" % len(SECOND)) + SECOND,
    "space around a length": head(b"Content-Length:  %d \t\r\n" % len(SECOND)) + SECOND,
    "chunk extension": head(CHUNKED) + ONE_CHUNK.replace(b"\r\n", b";a=b\r\n", 1),
    "several zeros as last chunk": head(CHUNKED) + ONE_CHUNK.replace(LAST, b"000\r\n\r\n"),
    "GET with a body": head(LENGTH, start=b"GET / HTTP/1.1\r\n") + SECOND,
    "absolute form": head(LENGTH, start=b"POST http://other.example/ HTTP/1.1\r\n") + SECOND,
    "empty line before": b"\r\n" + head(LENGTH) + SECOND,
    "length named by Connection": head(LENGTH, b"Connection: Content-Length\r\n") + SECOND,
    "two spaces": head(LENGTH, start=b"POST  /api/generate HTTP/1.1\r\n") + SECOND,
}
"""One request: everything after its head is its body."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(Echo()) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def log_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aichatfree.gateway")


def exchange(gateway: Gateway, sent: bytes) -> tuple[list[bytes], bool]:
    """The statuses of all responses, until the gateway closes the connection or falls silent, and
    whether it closes it.
    """
    received, is_closed = b"", False
    with connect(gateway) as connection:
        connection.sendall(sent)
        while not is_closed:
            try:
                block = connection.recv(65536)
            except TimeoutError:
                break
            except ConnectionError:
                block = b""
            received += block
            is_closed = not block
            connection.settimeout(SHORT)
    return re.findall(rb"HTTP/\d\.\d (\d{3}) [A-Z]", received), is_closed


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_a_request_whose_end_is_not_clear_is_refused(
    gateway: Gateway, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that another server may divide differently gets a 400, and the connection is
    closed: what follows in it is not read as a request.
    """
    assert exchange(gateway, sent) == ([b"400"], True)
    assert not any("/v1/models" in line for line in caplog.messages)


@pytest.mark.parametrize("sent", ONE.values(), ids=ONE)
def test_a_request_whose_end_is_clear_is_one_request(
    gateway: Gateway, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What looks like a request in the body of another one is a part of it, and the request after
    it is answered.
    """
    statuses, is_closed = exchange(gateway, sent + NEXT)
    assert len(statuses) == 2
    assert is_closed
    assert "/v1/models" not in caplog.messages[0]
    assert "HEAD /v1 404" in caplog.messages[1]


def test_a_request_that_offers_another_protocol_is_one_request(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """What follows an offer to change the protocol, in the same packet, is not a request."""
    sent = head(LENGTH, b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + SECOND + SECOND
    assert exchange(gateway, sent) == ([b"400"], False)
    assert len(caplog.messages) == 1
