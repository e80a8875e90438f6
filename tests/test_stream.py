from __future__ import annotations

import gzip
import io
import os
import signal
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
from helpers import ClientFor


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_a_chunk_is_handed_over_while_the_site_is_still_writing(
    client_for: ClientFor, framing: Any
) -> None:
    """The site sends its second chunk only after the reader has got the first one."""
    got_first = threading.Event()

    def chunks() -> Iterator[str]:
        yield "first"
        yield " second" if got_first.wait(5) else " too late"

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
def test_characters_split_over_reads_arrive_whole(client_for: ClientFor, framing: Any) -> None:
    """Text is the same however the network cuts it into bytes."""
    text = "Привет 你好 👋🏽 e\u0301 \u2028 end"
    with FakeSite([Answer(text, framing=framing, split=1)]) as site:
        assert client_for(site.url).generate("Hi").text == text


def test_nothing_is_sent_before_the_first_chunk_is_asked_for(client_for: ClientFor) -> None:
    """A stream that nobody reads costs the site nothing."""
    with FakeSite("Hello") as site:
        stream = client_for(site.url).stream("Hi")
        time.sleep(0.05)
        assert site.requests == []
        assert stream.read() == "Hello"


@pytest.mark.parametrize("end", ["clean", "cut"])
def test_show_prints_outside_of_a_notebook(
    client_for: ClientFor, capsys: pytest.CaptureFixture[str], end: Any
) -> None:
    """What arrives is on standard output, its last line ended; half an answer raises after that."""
    with FakeSite([Answer("Hel", "lo", end=end)]) as site:
        stream = client_for(site.url, retry=None).stream("Hi")
        if end == "clean":
            assert stream.show().text == "Hello"
        else:
            with pytest.raises(StreamInterruptedError):
                stream.show()
    assert capsys.readouterr().out == "Hello\n"


def test_show_closes_the_connection_if_nobody_reads(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that cannot be printed is not left open."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with FakeSite([Answer("a", "b", gap=30)]) as site:
        stream = client_for(site.url).stream("Hi")
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", Closed())
            with pytest.raises(BrokenPipeError):
                stream.show()
        assert site.requests[0].disconnected.wait(2)


def test_iterating_again_replays_and_sends_nothing(client_for: ClientFor) -> None:
    """The second reader gets the same chunks from memory."""
    with FakeSite([Answer("a", "b", "c")]) as site:
        stream = client_for(site.url).stream("Hi")
        assert list(stream) == list(stream) == ["a", "b", "c"]
        assert stream.read() == stream.text == "abc"
        assert len(site.requests) == 1


def test_two_iterators_share_one_answer(client_for: ClientFor) -> None:
    """Whoever comes first pulls a chunk; both see all of them in order."""
    with FakeSite([Answer("a", "b", "c")]) as site:
        stream = client_for(site.url).stream("Hi")
        pairs = list(zip(stream, iter(stream), strict=True))
        assert pairs == [("a", "a"), ("b", "b"), ("c", "c")]
        assert len(site.requests) == 1


@pytest.mark.parametrize("end", ["cut", "reset", "tail"])
def test_a_broken_answer_raises_each_time_it_is_read(client_for: ClientFor, end: Any) -> None:
    """Half an answer is never taken for a whole one, and what arrived of it is kept."""
    with FakeSite([Answer("half", " an answer", gap=0.05, end=end)]) as site:
        stream = client_for(site.url).stream("Hi")
        for _ in range(2):
            with pytest.raises(StreamInterruptedError) as caught:
                stream.read()
            assert caught.value.partial_text == stream.text == "half an answer"
            assert not stream.complete
        assert len(site.requests) == 1


def test_a_stream_is_not_sent_again_once_a_chunk_was_handed_over(client_for: ClientFor) -> None:
    """What the reader has seen cannot be taken back, so the failure is told instead."""
    with FakeSite([Answer("half", end="cut"), "whole"]) as site:
        stream = client_for(site.url).stream("Hi")
        assert next(stream) == "half"
        with pytest.raises(StreamInterruptedError):
            next(stream)
        assert len(site.requests) == 1


def test_a_stream_is_sent_again_before_its_first_chunk(client_for: ClientFor) -> None:
    """A failure that the reader has seen nothing of is mended in silence."""
    with FakeSite([Answer(end="tail"), Answer(status=500), "whole"]) as site:
        stream = client_for(site.url).stream("Hi")
        assert stream.read() == "whole"
        assert stream.attempts == 3


def test_leaving_the_context_closes_the_connection(client_for: ClientFor) -> None:
    """The site sees at once that nobody listens any more."""
    with FakeSite([Answer("a", "b", "c", gap=30)]) as site:
        with client_for(site.url).stream("Hi") as stream:
            assert next(stream) == "a"
        assert site.requests[0].disconnected.wait(2)
        with pytest.raises(StreamInterruptedError, match="closed"):
            stream.read()
        assert stream.text == "a"


def test_closing_a_finished_stream_changes_nothing(client_for: ClientFor) -> None:
    """A complete answer stays complete."""
    with FakeSite("Hello") as site:
        stream = client_for(site.url).stream("Hi")
        stream.read()
        stream.close()
        assert stream.complete
        assert stream.read() == "Hello"


def silent_before_headers() -> Answer:
    return Answer("never", delay=30)


def silent_in_the_middle() -> Answer:
    return Answer("a", "b", gap=30)


@pytest.mark.parametrize("answer", [silent_before_headers, silent_in_the_middle])
def test_cancel_ends_a_waiting_reader_at_once(client_for: ClientFor, answer: Any) -> None:
    """Another thread stops the answer in whichever phase it is."""
    with FakeSite([answer()]) as site:
        stream = client_for(site.url).stream("Hi")
        threading.Timer(0.2, stream.cancel).start()
        began = time.monotonic()
        with pytest.raises(StreamInterruptedError, match="cancelled"):
            stream.read()
        assert time.monotonic() - began < 2
        assert site.requests[0].disconnected.wait(2)
        assert len(site.requests) == 1


def test_cancel_ends_the_wait_before_a_retry(client_for: ClientFor) -> None:
    """A call that waits for the site's Retry-After can be stopped too."""
    with FakeSite([Answer(status=429, body="", headers={"Retry-After": "60"})]) as site:
        stream = client_for(site.url).stream("Hi")
        threading.Timer(0.2, stream.cancel).start()
        began = time.monotonic()
        with pytest.raises(StreamInterruptedError, match="cancelled"):
            stream.read()
        assert time.monotonic() - began < 2


def test_close_from_another_thread_stops_the_reader(client_for: ClientFor) -> None:
    """Closing does not block on the thread that reads, it ends its wait."""
    with FakeSite([silent_in_the_middle()]) as site:
        stream = client_for(site.url).stream("Hi")
        threading.Timer(0.2, stream.close).start()
        with pytest.raises(StreamInterruptedError):
            stream.read()


def test_cancel_before_the_start_sends_nothing(client_for: ClientFor) -> None:
    """A call that is not wanted any more does not reach the site."""
    with FakeSite("Hello") as site:
        stream = client_for(site.url).stream("Hi")
        stream.cancel()
        with pytest.raises(StreamInterruptedError):
            stream.read()
        assert site.requests == []


def test_a_stall_after_the_first_chunk_has_the_partial_text(client_for: ClientFor) -> None:
    """Silence in the middle is a time-out that keeps what arrived before it."""
    with FakeSite([Answer("half", end="stall")]) as site:
        with pytest.raises(APITimeoutError) as caught:
            client_for(site.url).stream("Hi", timeout=0.3).read()
        assert caught.value.partial_text == "half"


def test_an_interrupted_reader_leaves_no_connection_behind(client_for: ClientFor) -> None:
    """An exception in the reading thread, as Ctrl-C raises it, closes the exchange."""

    class Stop(BaseException):
        pass

    def chunks() -> Iterator[str]:
        yield "a"
        time.sleep(0.3)
        yield "b"

    def read(stream: Stream) -> None:
        with stream:
            for _ in stream:
                raise Stop

    with FakeSite([lambda request: Answer(stream=chunks())]) as site:
        with pytest.raises(Stop):
            read(client_for(site.url).stream("Hi"))
        assert site.requests[0].disconnected.wait(2)


def test_reading_on_after_a_finished_answer_reuses_the_connection(client_for: ClientFor) -> None:
    """Answers that were read to their end share one connection."""
    with FakeSite(["a", "b", "c"]) as site:
        client = client_for(site.url)
        for _ in range(3):
            client.stream("Hi").read()
        assert {request.connection for request in site.requests} == {1}


def test_a_closed_client_refuses_to_go_on(client_for: ClientFor) -> None:
    """After close() nothing is sent, and what was under way is broken off visibly."""

    def hold(request: Request) -> Answer:
        return Answer("a", "b", gap=30)

    with FakeSite([hold]) as site:
        client = client_for(site.url)
        stream = client.stream("Hi")
        assert next(stream) == "a"
        threading.Timer(0.2, client.close).start()
        with pytest.raises(StreamInterruptedError):
            stream.read()
        with pytest.raises(AIChatFreeError, match="closed"):
            client.generate("Hi")
        assert len(site.requests) == 1


def test_a_slow_reader_is_not_the_sites_silence(client_for: ClientFor) -> None:
    """A loop body may take longer than `read` allows the site to be silent."""
    with FakeSite([Answer(*"abc", gap=0.1)]) as site:
        chunks = []
        for chunk in client_for(site.url).stream("Hi", timeout=Timeout(read=0.3)):
            time.sleep(1.2)
            chunks.append(chunk)
    assert chunks == ["a", "b", "c"]


def test_closing_the_client_ends_a_wait_before_a_retry(client_for: ClientFor) -> None:
    """Nobody waits for the Retry-After of a site that is not asked again."""
    with FakeSite([Answer(status=429, body="", headers={"Retry-After": "60"})]) as site:
        client = client_for(site.url)
        threading.Timer(0.2, client.close).start()
        began = time.monotonic()
        with pytest.raises(StreamInterruptedError):
            client.generate("Hi")
        assert time.monotonic() - began < 2


def test_the_next_of_a_broken_stream_raises_again(client_for: ClientFor) -> None:
    """next() after the failure is the failure, not a normal end."""
    with FakeSite([Answer("half", end="cut")]) as site:
        stream = client_for(site.url).stream("Hi")
        assert next(stream) == "half"
        for _ in range(2):
            with pytest.raises(StreamInterruptedError):
                next(stream)


def test_an_interrupted_close_does_not_make_half_an_answer_whole(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever Ctrl-C strikes while a stream is closed, it stays incomplete."""
    with FakeSite([Answer("half", "rest", gap=30)]) as site:
        stream = client_for(site.url).stream("Hi")
        next(stream)

        def interrupt(_: object) -> str:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Stream, "text", property(interrupt))
            with pytest.raises(KeyboardInterrupt):
                stream.close()
        assert not stream.complete
        with pytest.raises(StreamInterruptedError):
            stream.read()
        stream._source.close()  # type: ignore[union-attr]


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
def test_a_malformed_body_is_an_error_of_ours(client_for: ClientFor, kind: str) -> None:
    """Whatever the bytes are, they are no whole answer and no foreign exception."""
    broken = pytest.raises((StreamInterruptedError, ProtocolError))
    with FakeSite([MALFORMED[kind]]) as site, broken:
        client_for(site.url, retry=None).generate("Hi")


def test_an_interim_reply_does_not_shift_the_answers(client_for: ClientFor) -> None:
    """After a 103 each question still gets the answer of its own, or an error."""

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


def test_reading_on_after_a_ctrl_c_says_that_the_answer_is_not_whole(
    client_for: ClientFor,
) -> None:
    """What had arrived is kept, and is not taken for all of it."""
    with FakeSite(Answer("one", "two", gap=5)) as site:
        stream = client_for(site.url).stream("Hi")
        assert next(stream) == "one"
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        timer.join()
        with pytest.raises(StreamInterruptedError, match="interrupted"):
            stream.read()
        assert (stream.text, stream.complete) == ("one", False)
