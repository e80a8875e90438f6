"""What an answer is on the wire: headers, framing, silences and endings."""

from __future__ import annotations

import itertools
import time
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead
from typing import Any

import pytest

from aichatfree.testing import Answer, FakeSite, Raw
from helpers import AT_ONCE, LONG, SHORT

from .visitor import CLOSE, Visitor, read_until, reads


def test_each_chunk_is_an_http_chunk(visitor: Visitor) -> None:
    """A chunked answer has one HTTP chunk for each chunk that is not empty."""
    with FakeSite(Answer("é", "", b"\xff", headers=CLOSE)) as site:
        assert visitor.body_as_sent(site) == b"2\r\n\xc3\xa9\r\n1\r\n\xff\r\n0\r\n\r\n"


def test_headers_replace_defaults_of_the_same_name(visitor: Visitor) -> None:
    """The headers of an answer replace default ones of the same name, in upper or lower case."""
    quota = Answer(status=429, body="{}", headers={"date": "never", "Retry-After": "1"})
    with FakeSite(quota) as site:
        response = visitor.post(visitor.connect(site))
        assert (response.status, response.reason) == (429, "Too Many Requests")
        assert response.headers.get_all("Date") == ["never"]
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Content-Length"] == "2"


def test_the_content_type_can_be_left_out(visitor: Visitor) -> None:
    """With content_type=None an answer has no Content-Type."""
    with FakeSite(Answer(content_type=None)) as site:
        assert "Content-Type" not in visitor.post(visitor.connect(site)).headers


def test_the_clock_of_the_site_can_be_wrong(visitor: Visitor) -> None:
    """clock_offset shifts the Date header by so many seconds."""
    with FakeSite(clock_offset=-3600) as site:
        date = parsedate_to_datetime(visitor.post(visitor.connect(site)).headers["Date"])
    assert date.timestamp() == pytest.approx(time.time() - 3600, abs=5)


# --- framing ----------------------------------------------------------------------------------


def test_close_framing_ends_with_the_connection(visitor: Visitor) -> None:
    """With framing="close" the body has no framing and ends with the connection."""
    with FakeSite(Answer("Hel", "lo", framing="close")) as site:
        assert visitor.body_as_sent(site) == b"Hello"


def test_an_http_1_0_client_gets_no_chunks(visitor: Visitor) -> None:
    """For an HTTP/1.0 client an answer with chunked framing is sent with close framing."""
    with FakeSite(Answer("Hel", "lo")) as site:
        assert visitor.body_as_sent(site, "HTTP/1.0") == b"Hello"


def test_split_sends_few_bytes_at_a_time(visitor: Visitor) -> None:
    """split=n sends the response n bytes at a time, so that it arrives in several reads."""
    with FakeSite(Answer("Привет", headers=CLOSE, split=3)) as site:
        received = list(reads(visitor.post_on_socket(site)))
    assert len(received) > 1  # a busy machine joins some of them
    assert b"".join(received).endswith(b"\r\n\r\nc\r\n" + "Привет".encode() + b"\r\n0\r\n\r\n")


# --- silences ---------------------------------------------------------------------------------


def test_delay_comes_before_the_headers_and_gap_between_chunks(visitor: Visitor) -> None:
    """A site is silent for `delay` seconds before the headers and `gap` seconds between chunks."""
    delay, gap = SHORT, SHORT / 2
    with FakeSite(Answer("a", "b", "c", delay=delay, gap=gap, headers=CLOSE)) as site:
        start = time.monotonic()
        sock = visitor.post_on_socket(site)
        times = []
        for chunk in (b"\r\na\r\n", b"\r\nb\r\n", b"\r\nc\r\n"):
            read_until(sock, chunk)
            times.append(time.monotonic() - start)
    for elapsed, expected in zip(times, (delay, delay + gap, delay + 2 * gap), strict=True):
        assert expected - 0.01 < elapsed < expected + AT_ONCE


def test_a_stream_may_be_endless(visitor: Visitor) -> None:
    """A stream is sent while it is produced, and is iterated again for each request."""
    with FakeSite(Answer(stream=itertools.repeat("na "))) as site:
        for _ in range(2):
            connection = visitor.connect(site)
            with visitor.post(connection) as response:
                assert response.read(9) == b"na na na "
            connection.close()
        assert all(request.disconnected.wait(LONG) for request in site.requests)


# --- endings ----------------------------------------------------------------------------------


def test_tail_is_an_extra_chunk_before_a_clean_end(visitor: Visitor) -> None:
    """end="tail" adds the servers' failure text as a separate last chunk."""
    with FakeSite(Answer("Hi", end="tail", headers=CLOSE)) as site:
        body = visitor.body_as_sent(site)
    assert body == b"2\r\nHi\r\n15\r\nInternal server error\r\n0\r\n\r\n"


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_cut_answer_is_incomplete(visitor: Visitor, framing: Any) -> None:
    """end="cut" closes the connection after the chunks and before the end of the body."""
    with (
        FakeSite(Answer("Hel", "lo", framing=framing, end="cut")) as site,
        pytest.raises(IncompleteRead) as error,
    ):
        visitor.ask(site)
    assert error.value.partial == b"Hello"


def test_a_reset_answer_resets_the_connection(visitor: Visitor) -> None:
    """end="reset" ends the connection with a TCP reset."""
    with FakeSite(Answer("Hello", end="reset")) as site, pytest.raises(ConnectionResetError):
        visitor.ask(site)


def test_a_stalled_answer_is_silent_until_the_site_stops(visitor: Visitor) -> None:
    """end="stall" sends the chunks and then nothing, and does not delay the end of the site."""
    with FakeSite(Answer("Hello", end="stall")) as site:
        response = visitor.post(visitor.connect(site))
        assert response.read(5) == b"Hello"
        assert not site.requests[0].disconnected.wait(SHORT)
        began = time.monotonic()
    assert time.monotonic() - began < AT_ONCE
    assert not site.requests[0].disconnected.is_set()


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_raw_sends_exact_bytes(visitor: Visitor, end: Any) -> None:
    """Raw sends its bytes in place of a response, and then ends the connection as specified."""
    received = b""
    with FakeSite(Raw(b"HTTP/1.1 2", b"00 O", gap=SHORT / 10, end=end)) as site:
        try:
            for data in reads(visitor.post_on_socket(site)):
                received += data
            assert end == "cut"
        except ConnectionResetError:
            assert end == "reset"
    assert received == b"HTTP/1.1 200 O"


def test_after_raw_with_a_clean_end_the_connection_is_kept(visitor: Visitor) -> None:
    """After Raw(end="clean") the connection serves another request."""
    complete = Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", end="clean")
    with FakeSite([complete, "Hello"]) as site:
        connection = visitor.connect(site)
        assert [visitor.post(connection).read() for _ in range(2)] == [b"ok", b"Hello"]
