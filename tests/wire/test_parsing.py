"""What bytes mean as a response, without any socket."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from aichatfree._wire.parsing import (
    BodyTooLongError,
    IncompleteResponseError,
    MalformedResponseError,
    ResponseParser,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWER = CHUNKED + b"3\r\nThe\r\n5;x=y\r\n Nile\r\n1\r\n.\r\n0\r\nX-Trailer: 1\r\n\r\n"
CHUNKS = [b"The", b" Nile", b"."]
WITH_LENGTH = OK + b"Content-Length: 9\r\n\r\nThe Nile."
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def parse(
    *parts: bytes, eof: bool = False, clean: bool = True, max_bytes: float = 1e9
) -> ResponseParser:
    parser = ResponseParser(max_bytes)
    for part in filter(None, parts):  # no bytes would be the end of the connection
        parser.feed(part)
    if eof:
        parser.feed_eof(clean=clean)
    return parser


def byte_by_byte(data: bytes) -> Iterable[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


def test_a_head_is_known_before_its_body() -> None:
    """Status and headers are there as soon as the empty line after them is."""
    parser = parse(CHUNKED)
    assert (parser.status, parser.framed, parser.complete) == (200, True, False)
    assert parser.headers.get("CONTENT-TYPE") == parser.headers["content-type"] == "text/plain"
    assert parser.headers.get("Date", "none") == "none"


def test_repeated_headers_are_joined() -> None:
    """No value of a header hides another one."""
    head = OK + b"Content-Encoding: gzip\r\ncontent-encoding: identity\r\n\r\n"
    assert parse(head).headers["Content-Encoding"] == "gzip, identity"


@pytest.mark.parametrize("at", range(len(ANSWER) + 1))
def test_a_response_may_be_split_anywhere(at: int) -> None:
    """Wherever a read ends, the same chunks arrive, as the site sent them."""
    parser = parse(ANSWER[:at], ANSWER[at:])
    assert list(parser.chunks) == CHUNKS
    assert (parser.complete, parser.keep_alive, parser.surplus) == (True, True, False)


def test_a_response_may_arrive_byte_by_byte() -> None:
    """Single bytes make up the same chunks."""
    parser = parse(*byte_by_byte(INTERIM + ANSWER))
    assert (list(parser.chunks), parser.complete) == (CHUNKS, True)


@pytest.mark.parametrize("at", range(len(ANSWER)))
def test_a_response_that_is_cut_is_incomplete(at: int) -> None:
    """A chunked response that is cut is an error up to the line end of its last chunk's size."""
    complete = ANSWER.index(b"X-Trailer")
    if at in (complete, len(ANSWER) - 2):  # only empty lines are missing
        assert parse(ANSWER[:at], eof=True).complete
    else:
        with pytest.raises(IncompleteResponseError):
            parse(ANSWER[:at], eof=True)


@pytest.mark.parametrize("at", range(len(WITH_LENGTH)))
def test_a_response_shorter_than_its_length_is_incomplete(at: int) -> None:
    """A response with a Content-Length is an error wherever it is cut."""
    with pytest.raises(IncompleteResponseError):
        parse(WITH_LENGTH[:at], eof=True)


def test_a_cut_keeps_the_chunks_that_are_complete() -> None:
    """What arrived before a cut can be read; an incomplete chunk cannot."""
    parser = parse(CHUNKED + b"3\r\nThe\r\n5\r\n Ni")
    with pytest.raises(IncompleteResponseError):
        parser.feed_eof()
    assert list(parser.chunks) == [b"The"]


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    """It is complete then, is read as it arrives, and its connection cannot be used again."""
    parser = parse(OK + b"\r\nThe", b" Nile.")
    assert (list(parser.chunks), parser.framed, parser.complete) == (
        [b"The", b" Nile."],
        False,
        False,
    )
    parser.feed_eof()
    assert (parser.complete, parser.keep_alive) == (True, False)


def test_a_cut_connection_does_not_end_a_body_over_tls() -> None:
    """Without close_notify the end of the connection is nobody's word."""
    with pytest.raises(IncompleteResponseError):
        parse(OK + b"\r\nThe Nile.", eof=True, clean=False)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        OK + b"Content-Length: 0\r\n\r\n",
        CHUNKED + b"0\r\n\r\n",
    ],
)
def test_a_response_may_have_no_body(head: bytes) -> None:
    """It is complete after its head."""
    parser = parse(head)
    assert (list(parser.chunks), parser.complete) == ([], True)


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_interim_responses_are_skipped(interim: bytes) -> None:
    """The response is the one after them, with its own headers."""
    parser = parse(b"HTTP/1.1 " + interim + b"\r\nX-Interim: 1\r\n\r\n" + ANSWER)
    assert (parser.status, list(parser.chunks), parser.complete) == (200, CHUNKS, True)
    assert "x-interim" not in parser.headers


def test_an_interim_response_alone_is_not_a_response() -> None:
    """A connection that ends after one is an error."""
    with pytest.raises(IncompleteResponseError):
        parse(INTERIM, eof=True)


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_the_site_decides_whether_its_connection_is_kept(head: bytes, keep_alive: bool) -> None:
    """By its version and its Connection header."""
    assert parse(head + b"Content-Length: 1\r\n\r\na").keep_alive is keep_alive


@pytest.mark.parametrize(
    "surplus", [b"x", b"H", b"HTTP/1.1 200 OK\r\n", WITH_LENGTH, b"\0" * 70_000, b"3\r\nabc\r\n"]
)
@pytest.mark.parametrize("split", [False, True])
def test_surplus_bytes_are_noticed(surplus: bytes, split: bool) -> None:
    """What follows a response is not part of it, and the connection cannot be used again."""
    parser = parse(ANSWER, surplus) if split else parse(ANSWER + surplus)
    assert (list(parser.chunks), parser.complete, parser.surplus) == (CHUNKS, True, True)


MALFORMED: dict[str, bytes] = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x46",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "an empty line before the head": b"\r\n" + WITH_LENGTH,
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "a status that is not a number": b"HTTP/1.1 OK\r\n\r\n",
    "another protocol after the head": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    "another protocol without its name": b"HTTP/1.1 101 Switching\r\n\r\n",
    "a line without a colon": OK + b"oops\r\n\r\n",
    "a name with a space": OK + b"X : 1\r\n\r\n",
    "no name": OK + b": 1\r\n\r\n",
    "a folded line": OK + b"X: 1\r\n 2\r\n\r\n",
    "a folded first line": OK + b" X: 1\r\n\r\n",
    "a bare carriage return": OK + b"X: 1\r2\r\n\r\n",
    "a NUL": OK + b"X: \0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\n",
    "a length that is not a number": OK + b"Content-Length: many\r\n\r\n",
    "a length with a sign": OK + b"Content-Length: +5\r\n\r\n",
    "a negative length": OK + b"Content-Length: -5\r\n\r\n",
    "an empty length": OK + b"Content-Length:\r\n\r\n",
    "a length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "101 headers": OK + b"X: 1\r\n" * 101 + b"\r\n",
    "a long head": OK + b"X: " + b"x" * 140_000,
    "endless interim responses": INTERIM * 4000,
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_head_is_refused(kind: str) -> None:
    """Whatever could be understood in two ways is not understood at all."""
    with pytest.raises(MalformedResponseError):
        parse(MALFORMED[kind])


BAD_CHUNKS: dict[str, bytes] = {
    "not a number": b"zz\r\nHello\r\n",
    "a sign": b"+5\r\nHello\r\n",
    "a negative size": b"-5\r\nHello\r\n",
    "a prefix": b"0x5\r\nHello\r\n",
    "a space before": b" 5\r\nHello\r\n",
    "an underscore": b"0_5\r\nHello\r\n",
    "no size": b"\r\nHello\r\n",
    "too large a number": b"f" * 17 + b"\r\nHello\r\n",
    "too small": b"2\r\nHello\r\n",
    "too small by a little": b"4\r\nHello\r\n",
    "larger than the chunk": b"6\r\nHello\r\n0\r\n\r\n",
    "bare line feeds": b"5\nHello\n",
    "an endless extension": b"5;" + b"x" * 140_000,
    "an endless trailer": b"0\r\nX: " + b"x" * 140_000,
    "a trailer without a colon": b"0\r\noops\r\n\r\n",
}


@pytest.mark.parametrize("kind", BAD_CHUNKS)
def test_a_malformed_chunk_is_refused(kind: str) -> None:
    """Chunks before it can be read; nothing after it is taken for a chunk."""
    parser = ResponseParser(1e9)
    parser.feed(CHUNKED + b"3\r\nThe\r\n")
    with pytest.raises(MalformedResponseError):
        parser.feed(BAD_CHUNKS[kind])
    assert list(parser.chunks) == [b"The"]
    assert not parser.complete


def test_a_body_has_a_limit() -> None:
    """Beyond max_bytes nothing more is read, not even to the end of a chunk."""
    parser = ResponseParser(10)
    parser.feed(CHUNKED + b"5\r\nHello\r\nffff\r\n")
    with pytest.raises(BodyTooLongError):
        parser.feed(b"x" * 100)
    assert list(parser.chunks) == [b"Hello", b"x" * 100]


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"Chunked", b"chunked, chunked"])
def test_a_body_is_chunked_if_its_last_coding_says_so(coding: bytes) -> None:
    """Other codings before it are left to the caller to refuse."""
    parser = parse(OK + b"Transfer-Encoding: " + coding + b"\r\n\r\n1\r\na\r\n0\r\n\r\n")
    assert (list(parser.chunks), parser.complete) == ([b"a"], True)


def test_the_chunks_of_a_compressed_body_mean_nothing() -> None:
    """They are chunks of compressed bytes, so the body counts as unframed."""
    head = OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert not parse(head).framed


def test_progress_is_made_by_complete_chunks_only() -> None:
    """A site that sends a chunk byte by byte makes no progress until its end."""
    parser = parse(CHUNKED)
    begun = parser.progress
    for byte in byte_by_byte(b"5\r\nHello\r"):
        parser.feed(byte)
        assert parser.progress == begun
    parser.feed(b"\n")
    assert parser.progress > begun


@pytest.mark.parametrize("seed", range(20))
def test_no_mutation_is_another_answer(seed: int) -> None:
    """500 random changes of a byte each: an error of ours, or chunks that the bytes really have."""
    chance = random.Random(seed)
    text = b"".join(CHUNKS)
    for _ in range(500):
        data = bytearray(ANSWER)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        mutated = bytes(data[: chance.randint(len(data) // 2, len(data))])
        parser = ResponseParser(1e9)
        try:
            parser.feed(mutated)
            parser.feed_eof()
        except (MalformedResponseError, IncompleteResponseError):
            continue
        assert parser.complete
        body = b"".join(parser.chunks)
        assert not parser.framed or len(body) <= len(text) or body in mutated
