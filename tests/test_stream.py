"""One answer as it arrives: chunks, replays, incomplete answers, cancelling and closing."""

from __future__ import annotations

import gzip
import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aichatfree import (
    AIChatFreeError,
    APIConnectionError,
    APITimeoutError,
    ProtocolError,
    Stream,
    StreamInterruptedError,
    Timeout,
)
from aichatfree.testing import Answer, FakeSite, Raw, Request
from helpers import AT_ONCE, HANG, LONG, SHORT, ClientFor


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_a_chunk_is_returned_while_the_site_is_still_writing(
    client_for: ClientFor, framing: Any
) -> None:
    """The first chunk is returned although the site sends the second one only after that."""
    got_first = threading.Event()

    def chunks() -> Iterator[str]:
        yield "first"
        yield " second" if got_first.wait(LONG) else " too late"

    headers = {"Content-Length": str(len("first second"))} if framing == "length" else {}
    answer = Answer(
        stream=chunks(), framing="close" if framing != "chunked" else framing, headers=headers
    )
    with FakeSite([answer]) as site, client_for(site.url).stream("Hi") as stream:
        assert next(stream) == "first"
        got_first.set()
        assert list(stream) == ["first", " second"]
        assert stream.complete


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_characters_may_be_split_over_reads(client_for: ClientFor, framing: Any) -> None:
    """The text of an answer does not depend on how the network splits its bytes."""
    text = "Привет 你好 👋🏽 e\u0301 \u2028 end"
    with FakeSite([Answer(text, framing=framing, split=1)]) as site:
        assert client_for(site.url).generate("Hi").text == text


def test_the_request_is_sent_when_the_first_chunk_is_read(client_for: ClientFor) -> None:
    """Creating a stream sends no request; reading its first chunk does."""
    with FakeSite("Hello") as site:
        stream = client_for(site.url).stream("Hi")
        time.sleep(SHORT)
        assert site.requests == []
        assert stream.read() == "Hello"


@pytest.mark.parametrize("end", ["clean", "cut"])
def test_show_prints_outside_a_notebook(
    client_for: ClientFor, capsys: pytest.CaptureFixture[str], end: Any
) -> None:
    """show() prints the answer and a line end; for an incomplete answer it raises after that."""
    with FakeSite([Answer("Hel", "lo", end=end)]) as site:
        stream = client_for(site.url, retry=None).stream("Hi")
        if end == "clean":
            stream.show()
            assert stream.reply().text == "Hello"
        else:
            with pytest.raises(StreamInterruptedError):
                stream.show()
    assert capsys.readouterr().out == "Hello\n"


def test_show_closes_the_connection_if_printing_fails(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If standard output is closed, show() raises and closes the connection to the site."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with FakeSite([Answer("a", "b", gap=HANG)]) as site:
        stream = client_for(site.url).stream("Hi")
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", Closed())
            with pytest.raises(BrokenPipeError):
                stream.show()
        assert site.requests[0].disconnected.wait(AT_ONCE)


def test_iterating_again_replays_and_sends_nothing(client_for: ClientFor) -> None:
    """Iterating a stream again returns the same chunks from memory without a request."""
    with FakeSite([Answer("a", "b", "c")]) as site:
        stream = client_for(site.url).stream("Hi")
        assert list(stream) == list(stream) == ["a", "b", "c"]
        assert stream.read() == stream.text == "abc"
        assert len(site.requests) == 1


def test_two_iterators_share_one_answer(client_for: ClientFor) -> None:
    """Two iterators over one stream each return all chunks in order, with one request."""
    with FakeSite([Answer("a", "b", "c")]) as site:
        stream = client_for(site.url).stream("Hi")
        pairs = list(zip(stream, iter(stream), strict=True))
        assert pairs == [("a", "a"), ("b", "b"), ("c", "c")]
        assert len(site.requests) == 1


@pytest.mark.parametrize("end", ["cut", "reset", "tail"])
def test_an_incomplete_answer_raises_each_time_it_is_read(client_for: ClientFor, end: Any) -> None:
    """Reading an incomplete answer raises each time, and what has arrived of it is kept."""
    with FakeSite([Answer("half", " an answer", gap=0.05, end=end)]) as site:
        stream = client_for(site.url).stream("Hi")
        for _ in range(2):
            with pytest.raises(StreamInterruptedError) as caught:
                stream.read()
            assert caught.value.partial_text == stream.text == "half an answer"
            assert not stream.complete
        assert len(site.requests) == 1


def test_a_stream_is_not_retried_after_its_first_chunk(client_for: ClientFor) -> None:
    """Once a chunk has been returned, a failure is raised and the request is not retried."""
    with FakeSite([Answer("half", end="cut"), "complete"]) as site:
        stream = client_for(site.url).stream("Hi")
        assert next(stream) == "half"
        with pytest.raises(StreamInterruptedError):
            next(stream)
        assert len(site.requests) == 1


def test_a_stream_is_retried_before_its_first_chunk(client_for: ClientFor) -> None:
    """Before a chunk has been returned, a failed request is retried without an error."""
    with FakeSite([Answer(end="tail"), Answer(status=500), "complete"]) as site:
        stream = client_for(site.url).stream("Hi")
        assert stream.read() == "complete"
        assert stream.attempts == 3


def test_leaving_the_context_closes_the_connection(client_for: ClientFor) -> None:
    """Leaving the with block of a stream closes its connection, and the site notices."""
    with FakeSite([Answer("a", "b", "c", gap=HANG)]) as site:
        with client_for(site.url).stream("Hi") as stream:
            assert next(stream) == "a"
        assert site.requests[0].disconnected.wait(AT_ONCE)
        with pytest.raises(StreamInterruptedError, match="closed"):
            stream.read()
        assert stream.text == "a"


def test_closing_a_complete_stream_has_no_effect(client_for: ClientFor) -> None:
    """A complete answer is still complete after its stream is closed, and can be read."""
    with FakeSite("Hello") as site:
        stream = client_for(site.url).stream("Hi")
        stream.read()
        stream.close()
        assert stream.complete
        assert stream.read() == "Hello"


def silent_before_headers() -> Answer:
    return Answer("never", delay=HANG)


def silent_in_the_middle() -> Answer:
    return Answer("a", "b", gap=HANG)


@pytest.mark.parametrize("answer", [silent_before_headers, silent_in_the_middle])
def test_cancel_ends_the_wait_of_a_reader(client_for: ClientFor, answer: Any) -> None:
    """cancel() in another thread ends a read at once, before the headers or between chunks."""
    with FakeSite([answer()]) as site:
        stream = client_for(site.url).stream("Hi")
        threading.Timer(SHORT, stream.cancel).start()
        began = time.monotonic()
        with pytest.raises(StreamInterruptedError, match="cancelled"):
            stream.read()
        assert time.monotonic() - began < SHORT + AT_ONCE
        assert site.requests[0].disconnected.wait(AT_ONCE)
        assert len(site.requests) == 1


def test_cancel_ends_the_wait_before_a_retry(client_for: ClientFor) -> None:
    """cancel() ends a read that waits for the site's Retry-After."""
    with FakeSite([Answer(status=429, body="", headers={"Retry-After": "60"})]) as site:
        stream = client_for(site.url).stream("Hi")
        threading.Timer(SHORT, stream.cancel).start()
        began = time.monotonic()
        with pytest.raises(StreamInterruptedError, match="cancelled"):
            stream.read()
        assert time.monotonic() - began < SHORT + AT_ONCE


def test_close_in_another_thread_ends_the_wait_of_a_reader(client_for: ClientFor) -> None:
    """close() in another thread ends a read with an error instead of waiting for it."""
    with FakeSite([silent_in_the_middle()]) as site:
        stream = client_for(site.url).stream("Hi")
        threading.Timer(SHORT, stream.close).start()
        with pytest.raises(StreamInterruptedError):
            stream.read()


def test_cancel_before_the_first_read_sends_nothing(client_for: ClientFor) -> None:
    """A stream that is cancelled before it is read sends no request."""
    with FakeSite("Hello") as site:
        stream = client_for(site.url).stream("Hi")
        stream.cancel()
        with pytest.raises(StreamInterruptedError):
            stream.read()
        assert site.requests == []


def test_a_read_timeout_keeps_the_partial_text(client_for: ClientFor) -> None:
    """A silence of the site after a chunk is an APITimeoutError with the text before it."""
    with FakeSite([Answer("half", end="stall")]) as site:
        with pytest.raises(APITimeoutError) as caught:
            client_for(site.url).stream("Hi", timeout=SHORT).read()
        assert caught.value.partial_text == "half"


def test_an_exception_in_the_loop_closes_the_connection(client_for: ClientFor) -> None:
    """An exception in the loop over a stream, such as Ctrl-C, closes the connection."""

    class Stop(BaseException):
        pass

    def chunks() -> Iterator[str]:
        yield "a"
        time.sleep(SHORT)
        yield "b"

    def read(stream: Stream) -> None:
        with stream:
            for _ in stream:
                raise Stop

    with FakeSite([lambda request: Answer(stream=chunks())]) as site:
        with pytest.raises(Stop):
            read(client_for(site.url).stream("Hi"))
        assert site.requests[0].disconnected.wait(AT_ONCE)


def test_complete_answers_share_a_connection(client_for: ClientFor) -> None:
    """A connection is reused after an answer has been read to its end."""
    with FakeSite(["a", "b", "c"]) as site:
        client = client_for(site.url)
        for _ in range(3):
            client.stream("Hi").read()
        assert {request.connection for request in site.requests} == {1}


def test_closing_a_client_ends_its_calls(client_for: ClientFor) -> None:
    """Closing a client interrupts a call in flight with an error, and forbids new ones."""

    def hold(request: Request) -> Answer:
        return Answer("a", "b", gap=HANG)

    with FakeSite([hold]) as site:
        client = client_for(site.url)
        stream = client.stream("Hi")
        assert next(stream) == "a"
        threading.Timer(SHORT, client.close).start()
        with pytest.raises(StreamInterruptedError):
            stream.read()
        with pytest.raises(AIChatFreeError, match="closed"):
            client.generate("Hi")
        assert len(site.requests) == 1


def test_the_read_timeout_does_not_include_the_callers_time(client_for: ClientFor) -> None:
    """The body of a loop over a stream may take longer than the read timeout."""
    with FakeSite([Answer(*"abc", gap=SHORT / 4)]) as site:
        chunks = []
        for chunk in client_for(site.url).stream("Hi", timeout=Timeout(read=SHORT)):
            time.sleep(2 * SHORT)
            chunks.append(chunk)
    assert chunks == ["a", "b", "c"]


def test_closing_the_client_ends_a_wait_before_a_retry(client_for: ClientFor) -> None:
    """Closing the client ends a call that waits for the site's Retry-After."""
    with FakeSite([Answer(status=429, body="", headers={"Retry-After": "60"})]) as site:
        client = client_for(site.url)
        threading.Timer(SHORT, client.close).start()
        began = time.monotonic()
        with pytest.raises(StreamInterruptedError):
            client.generate("Hi")
        assert time.monotonic() - began < SHORT + AT_ONCE


def test_next_raises_again_after_a_failure(client_for: ClientFor) -> None:
    """After a failure each next() raises the error again, and not StopIteration."""
    with FakeSite([Answer("half", end="cut")]) as site:
        stream = client_for(site.url).stream("Hi")
        assert next(stream) == "half"
        for _ in range(2):
            with pytest.raises(StreamInterruptedError):
                next(stream)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
GZIPPED = gzip.compress(b"text that repeats " * 1000)

MALFORMED = {
    "a huge chunk size": Raw(CHUNKED + b"\r\n1\r\na\r\nFFFFFFFFFFFFFFFFFFFF\r\nx"),
    "a negative chunk size": Raw(CHUNKED + b"\r\n1\r\na\r\n-5\r\nx"),
    "no chunk size": Raw(CHUNKED + b"\r\n1\r\na\r\nxyz\r\nx"),
    "half of a gzip body": Raw(
        CHUNKED + b"Content-Encoding: gzip\r\n\r\n%x\r\n" % 40 + GZIPPED[:40] + b"\r\n0\r\n\r\n"
    ),
    "a part of a body": Raw(b"HTTP/1.1 206 Partial\r\nContent-Length: 4\r\n\r\nhalf"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_body_is_one_of_our_errors(client_for: ClientFor, kind: str) -> None:
    """A malformed body is a StreamInterruptedError or a ProtocolError, and never an answer."""
    broken = pytest.raises((StreamInterruptedError, ProtocolError))
    with FakeSite([MALFORMED[kind]]) as site, broken:
        client_for(site.url, retry=None).generate("Hi")


def test_interim_responses_do_not_shift_the_answers(client_for: ClientFor) -> None:
    """If the site sends a 103 before each response, no prompt gets another one's answer."""

    def answer(request: Request) -> Raw:
        text = request.text.encode()
        final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
        return Raw(b"HTTP/1.1 103 Early Hints\r\n\r\n", final, gap=0.1, end="clean")

    with FakeSite([answer]) as site:
        client = client_for(site.url, retry=None)
        for question in ("one", "two", "three"):
            try:
                assert client.generate(question).text == question
            except APIConnectionError:
                continue
