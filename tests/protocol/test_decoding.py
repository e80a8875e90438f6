"""Bytes to text: characters split over reads, failure tails and quota phrases in an answer."""

from __future__ import annotations

import codecs
import itertools
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aichatfree._protocol.decoding import FAILURE_TAIL, ReplyDecoder
from aichatfree.errors import APIError, EmptyReplyError, RateLimitError, StreamInterruptedError

steady = settings(derandomize=True, deadline=None, max_examples=200)

TAIL = FAILURE_TAIL
PHRASE = "当前地区当日额度已消耗完"
PHRASES = (PHRASE, "Quota used up", "Quit")

both = pytest.mark.parametrize("framed", [True, False], ids=["framed", "unframed"])


def decode(
    chunks: Sequence[bytes], *, framed: bool, phrases: Sequence[str] = PHRASES
) -> tuple[str, type[APIError] | None]:
    """All the text of a body, and the class of its error."""
    decoder = ReplyDecoder(framed=framed, quota_phrases=phrases)
    text = "".join([decoder.feed(chunk) for chunk in chunks])
    rest, error = decoder.finish()
    return text + rest, type(error) if error else None


def text_of(body: bytes) -> tuple[str, bool]:
    """The text of a body, and whether it ends in the middle of a character."""
    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    return utf8.decode(body), bool(utf8.getstate()[0])


def halves(body: bytes) -> Iterator[list[bytes]]:
    """Every way to cut a body in two, empty halves included."""
    return ([body[:at], body[at:]] for at in range(len(body) + 1))


def bytewise(body: bytes) -> list[bytes]:
    return [body[at : at + 1] for at in range(len(body))]


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


def may_be_phrase(body: bytes) -> bool:
    stripped = body.strip()
    near = len(body) - len(stripped) <= 8
    return near and any(phrase.encode().startswith(stripped) for phrase in PHRASES)


# --- text -------------------------------------------------------------------------------------


@settings(steady, max_examples=400)
@given(split_bodies(), st.booleans())
def test_any_split_of_any_body(chunks: list[bytes], framed: bool) -> None:
    """Text and error depend only on the bytes of the body and, if framed, on its last chunk."""
    body = b"".join(chunks)
    last = ([b"", *filter(None, chunks)])[-1]
    text, failure = decode(chunks, framed=framed)
    if may_be_phrase(body) and body.strip().decode("utf-8", "replace") in PHRASES:
        assert (text, failure) == ("", RateLimitError)
    elif last == TAIL if framed else body.endswith(TAIL):
        assert (text, failure) == (text_of(body[: -len(TAIL)])[0], StreamInterruptedError)
    else:
        complete_text, cut = text_of(body)
        assert text == complete_text
        expected = StreamInterruptedError if cut else None
        assert failure is (expected if body else EmptyReplyError)


@steady
@given(split_bodies(), st.booleans())
def test_text_comes_as_early_as_possible(chunks: list[bytes], framed: bool) -> None:
    """Only a cut character, and what may be the tail or a quota phrase, is held back."""
    decoder = ReplyDecoder(framed=framed, quota_phrases=PHRASES)
    returned, body, before = "", b"", b""
    for chunk in filter(None, chunks):
        returned += decoder.feed(chunk)
        body += chunk
        if not returned and may_be_phrase(body):
            before = body
            continue
        certain = body
        if framed:
            certain = before if chunk == TAIL else body
        else:
            lengths = range(len(TAIL), 0, -1)
            held = next((n for n in lengths if body.endswith(TAIL[:n])), 0)
            certain = body[: len(body) - held]
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        assert returned == utf8.decode(certain)
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


# --- the failure tail -------------------------------------------------------------------------


def test_the_tail() -> None:
    """The failure tail is the text that the servers append when they fail."""
    assert TAIL == b"Internal server error"


@both
def test_tail_after_text(framed: bool) -> None:
    """The failure tail as a separate last chunk is an error and not part of the text."""
    assert decode([b"Once upon", TAIL], framed=framed) == ("Once upon", StreamInterruptedError)


@both
def test_tail_as_the_only_chunk(framed: bool) -> None:
    """The failure tail alone is an interrupted answer without text, and not an empty reply."""
    assert decode([TAIL], framed=framed) == ("", StreamInterruptedError)


@both
def test_tail_twice(framed: bool) -> None:
    """If the failure tail arrives twice, the first one is text and the second is the error."""
    text = TAIL.decode()
    assert decode([TAIL, TAIL], framed=framed) == (text, StreamInterruptedError)


@both
def test_tail_before_more_text(framed: bool) -> None:
    """The words of the failure tail are text if anything follows."""
    text, failure = decode([b"a ", TAIL, b"!"], framed=framed)
    assert (text, failure) == (f"a {TAIL.decode()}!", None)


@both
def test_tail_after_a_cut_character(framed: bool) -> None:
    """The first bytes of a character before the failure tail are not part of the text."""
    chunks = [b"ok ", "🙂".encode()[:2], TAIL]
    assert decode(chunks, framed=framed) == ("ok ", StreamInterruptedError)


def test_tail_in_a_larger_chunk_is_text() -> None:
    """In a framed body, the words of the failure tail inside a larger chunk are text."""
    for chunk in [b"An " + TAIL, TAIL + b"\n", b" " + TAIL, TAIL + TAIL]:
        assert decode([b"a", chunk], framed=True) == ("a" + chunk.decode(), None)
        assert decode([chunk], framed=True) == (chunk.decode(), None)


def test_tail_over_two_chunks_is_text() -> None:
    """In a framed body, the words of the failure tail split over two chunks are text."""
    for first, second in list(halves(TAIL))[1:-1]:
        assert decode([b"a", first, second], framed=True) == ("a" + TAIL.decode(), None)


def test_tail_is_case_sensitive() -> None:
    """Words that only resemble the failure tail are text."""
    for chunk in [TAIL.lower(), TAIL + b".", TAIL[:-1]]:
        assert decode([b"a", chunk], framed=True) == ("a" + chunk.decode(), None)


@pytest.mark.parametrize("before", [b"", b"Once ", b"I", TAIL, "🙂".encode()[:1]], ids=repr)
def test_unframed_tail_however_split(before: bytes) -> None:
    """In an unframed body, the failure tail at the end is an error however it is split."""
    body = before + TAIL
    expected = (text_of(before)[0], StreamInterruptedError)
    for chunks in [[body], bytewise(body), *halves(body)]:
        assert decode(chunks, framed=False) == expected


def test_unframed_beginning_of_the_tail_is_text() -> None:
    """An unframed body that ends with the first bytes of the failure tail is complete."""
    for length in range(1, len(TAIL)):
        body = b"a " + TAIL[:length]
        assert decode(bytewise(body), framed=False) == (body.decode(), None)


def test_failure_says_what_to_do() -> None:
    """The error for the failure tail advises to send the prompt again."""
    decoder = ReplyDecoder(framed=True)
    decoder.feed(TAIL)
    _, error = decoder.finish()
    assert "again" in str(error)


# --- the quota phrase -------------------------------------------------------------------------


@both
@pytest.mark.parametrize("around", [("", ""), ("\n", ""), (" ", " \r\n")], ids=repr)
@pytest.mark.parametrize("phrase", PHRASES)
def test_quota_phrase_however_split(phrase: str, around: tuple[str, str], framed: bool) -> None:
    """A quota phrase as the complete body, except spaces, is a RateLimitError without text."""
    body = phrase.join(around).encode()
    for chunks in [[body], bytewise(body), *halves(body)]:
        assert decode(chunks, framed=framed) == ("", RateLimitError)


def test_quota_phrase_is_quoted() -> None:
    """The error for a quota phrase quotes it, and has the status of the response."""
    decoder = ReplyDecoder(framed=True, quota_phrases=PHRASES)
    assert decoder.feed(f" {PHRASE}\n".encode()) == ""
    _, error = decoder.finish()
    assert error is not None
    assert error.body == PHRASE
    assert error.status_code == 200
    assert PHRASE in str(error)


@both
@pytest.mark.parametrize(
    "body",
    [
        PHRASE[:4],
        PHRASE + "。",
        PHRASE + " 你好",
        "注意: " + PHRASE,
        PHRASE + PHRASE,
        PHRASE[:-1] + "了",
        "\ufeff" + PHRASE,
        "Quit smoking",
        "Qu",
        "Q",
        " ",
        " " * 40 + PHRASE,
    ],
)
def test_near_quota_phrase_is_text(body: str, framed: bool) -> None:
    """A body that only begins like, ends like or contains a quota phrase is text."""
    data = body.encode()
    for chunks in [[data], bytewise(data), *halves(data)]:
        assert decode(chunks, framed=framed) == (body, None)


@both
def test_text_is_returned_once_it_cannot_be_a_quota_phrase(framed: bool) -> None:
    """Text held back as a possible quota phrase is returned with the first byte that differs."""
    decoder = ReplyDecoder(framed=framed, quota_phrases=PHRASES)
    assert decoder.feed(b"Quit") == ""
    assert decoder.feed(b"s") == "Quits"
    assert decoder.feed(b"Quit") == "Quit"


@both
def test_quota_phrase_after_text_is_text(framed: bool) -> None:
    """A quota phrase that follows other text is text."""
    assert decode([b"a", PHRASE.encode()], framed=framed) == ("a" + PHRASE, None)
    # This phrase is also the beginning of the failure tail, which is held back as well.
    assert decode([b"a ", b"Inter"], framed=framed, phrases=["Inter"]) == ("a Inter", None)


@both
def test_quota_phrase_before_the_tail_is_text(framed: bool) -> None:
    """A quota phrase before the failure tail is the text of an interrupted answer."""
    assert decode([PHRASE.encode(), TAIL], framed=framed) == (PHRASE, StreamInterruptedError)


@both
@pytest.mark.parametrize("phrases", [(), ("",)], ids=repr)
def test_no_quota_phrases(phrases: Sequence[str], framed: bool) -> None:
    """Without quota phrases, or with an empty one, nothing is held back as one."""
    decoder = ReplyDecoder(framed=framed, quota_phrases=phrases)
    assert decoder.feed(b" ") == " "
    assert decode([PHRASE.encode()], framed=framed, phrases=phrases) == (PHRASE, None)
    assert decode([], framed=framed, phrases=phrases) == ("", EmptyReplyError)


@both
@pytest.mark.parametrize("spaces", [1, 7, 8, 9, 20])
@pytest.mark.parametrize("phrase", PHRASES)
def test_spaces_around_a_quota_phrase(phrase: str, spaces: int, framed: bool) -> None:
    """How many spaces may surround a quota phrase does not depend on how the body is split."""
    body = b" " * spaces + phrase.encode()
    splits = [[body], bytewise(body), *halves(body)]
    assert len({decode(chunks, framed=framed) for chunks in splits}) == 1


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
    decoder = ReplyDecoder(framed=framed, quota_phrases=PHRASES)
    decoder.feed(chunk)
    tracemalloc.start()
    try:
        for _ in range(300):
            decoder.feed(chunk)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000
