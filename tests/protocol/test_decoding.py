"""Bytes to text: characters split over reads."""

from __future__ import annotations

import codecs
import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aichatfree import Site
from aichatfree._protocol.decoding import ReplyDecoder
from aichatfree.errors import EmptyReplyError, StreamInterruptedError

from .bodies import steady
from .chunks import PHRASE, TAIL, both, bytewise, decode, halves, text_of

#: Looks for the failure tail only; what else is held back depends on the words.
SITE = Site(ignore=["refusals", "notices", "web_pages", "events"])

# Everything that has a special meaning, among text and random bytes.
fragments = (
    st.sampled_from([TAIL, PHRASE.encode(), b"Quota used up", b"Quit", b" ", b"I", "é🙂".encode()])
    | st.text(max_size=6).map(str.encode)
    | st.binary(max_size=4)
)


@st.composite
def split_bodies(draw: st.DrawFn) -> list[bytes]:
    """The chunks of a body: its fragments, or the same bytes cut in other places."""
    chunks = draw(st.lists(fragments, max_size=5))
    if draw(st.booleans()):
        return chunks
    body = b"".join(chunks)
    cuts = sorted(draw(st.sets(st.integers(0, len(body)), max_size=6)) | {0, len(body)})
    return [body[a:b] for a, b in itertools.pairwise(cuts)]


def glued(body: bytes) -> bool:
    """Whether the failure tail at the end of a body follows no space."""
    return not body[: -len(TAIL)][-1:].isspace()


def may_be_tail(body: bytes, length: int) -> bool:
    """Whether so many bytes at the end of a body may be the beginning of the failure tail."""
    end, before = body[-length:], body[:-length]
    return body.endswith(TAIL[:length]) and len(end) == length and not before[-1:].isspace()


# --- text -------------------------------------------------------------------------------------


@settings(steady, max_examples=400)
@given(split_bodies(), st.booleans())
def test_any_split_of_any_body(chunks: list[bytes], framed: bool) -> None:
    """Text and error depend only on the bytes of the body and, if framed, on its last chunk.

    The failure tail is one at the beginning, after a character that is not a space, or as a chunk.
    """
    body = b"".join(chunks)
    last = ([b"", *filter(None, chunks)])[-1]
    text, failure = decode(chunks, framed=framed, site=SITE)
    if body.endswith(TAIL) and (glued(body) or (framed and last == TAIL)):
        assert (text, failure) == (text_of(body[: -len(TAIL)])[0], StreamInterruptedError)
    else:
        complete_text, cut = text_of(body)
        assert text == complete_text
        expected = StreamInterruptedError if cut else None
        assert failure is (expected if body else EmptyReplyError)


@steady
@given(split_bodies(), st.booleans())
def test_text_comes_as_early_as_possible(chunks: list[bytes], framed: bool) -> None:
    """Only a cut character, and what may be the tail, is held back."""
    decoder = ReplyDecoder(framed=framed, site=SITE)
    returned, body, before = "", b"", b""
    for chunk in filter(None, chunks):
        returned += decoder.feed(chunk)
        body += chunk
        certain = body
        if framed:
            certain = before if chunk == TAIL else body
        if certain is body:
            lengths = range(len(TAIL), 0, -1)
            held = next((n for n in lengths if may_be_tail(body, n)), 0)
            certain = body[: len(body) - held]
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        expected = utf8.decode(certain)
        assert returned == expected or not expected.strip()
        before = body


@steady
@given(st.text(max_size=12), st.booleans())
def test_byte_by_byte(text: str, framed: bool) -> None:
    """A text that arrives one byte at a time is decoded completely."""
    assert decode(bytewise(text.encode()), framed=framed, phrases=())[0] == text


@both
def test_a_character_is_returned_with_its_last_byte(framed: bool) -> None:
    """A character is returned as soon as its last byte has arrived."""
    decoder = ReplyDecoder(framed=framed)
    returned = [decoder.feed(chunk) for chunk in bytewise("aé你🙂".encode())]
    assert returned == ["a", "", "é", "", "", "你", "", "", "", "🙂"]


@both
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\xff", "\ufffd"),
        (b"a\xffb", "a\ufffdb"),
        (b"\xc0\x80", "\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        ("\ufffd".encode(), "\ufffd"),
        ("a\u2028b\u2029c\x85d".encode(), "a\u2028b\u2029c\x85d"),
        (b"a\x00b\x1b[0m\r\n", "a\x00b\x1b[0m\r\n"),
        ("\ufeffa\ufeff".encode(), "\ufeffa\ufeff"),
        ("e\u0301".encode(), "e\u0301"),
        (b"  a  ", "  a  "),
    ],
    ids=repr,
)
def test_every_valid_character_is_kept(body: bytes, text: str, framed: bool) -> None:
    """Invalid bytes become U+FFFD; every valid character is kept, such as a BOM or NUL."""
    for chunks in [[body], bytewise(body), *halves(body)]:
        assert decode(chunks, framed=framed) == (text, None)


@both
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_incomplete_character_at_the_end(cut: int, framed: bool) -> None:
    """An answer that ends in the middle of a character is incomplete."""
    chunks = [b"ok ", "🙂".encode()[:cut]]
    assert decode(chunks, framed=framed) == ("ok ", StreamInterruptedError)


@both
@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]], ids=repr)
def test_empty_reply(chunks: list[bytes], framed: bool) -> None:
    """A body without any bytes is an EmptyReplyError."""
    assert decode(chunks, framed=framed) == ("", EmptyReplyError)


@both
def test_empty_chunks_change_nothing(framed: bool) -> None:
    """An empty chunk is ignored, also between the failure tail and the end."""
    assert decode([b"", b"a", b"", TAIL, b""], framed=framed) == ("a", StreamInterruptedError)


# --- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk", "framed"),
    [
        (b"x" * 100_000, True),
        (b"x" * 100_000, False),
        (b"x" * 100_000 + TAIL, False),
        (b"x" * 100_000 + "🙂".encode()[:3], True),
        (b" " * 100_000, True),
        (TAIL, True),
        (TAIL, False),
        (b" ", True),
    ],
    ids=lambda value: repr(value)[-12:],
)
def test_memory_is_bounded(chunk: bytes, framed: bool) -> None:
    """The memory of a decoder does not grow with the bytes that it has decoded."""
    decoder = ReplyDecoder(framed=framed, site=SITE)
    decoder.feed(chunk)
    tracemalloc.start()
    try:
        for _ in range(300):
            decoder.feed(chunk)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4_000
