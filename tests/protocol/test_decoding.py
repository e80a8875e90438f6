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
    pieces: Sequence[bytes], *, framed: bool, phrases: Sequence[str] = PHRASES
) -> tuple[str, type[APIError] | None]:
    """All the text of a reply, and the kind of its failure."""
    decoder = ReplyDecoder(framed=framed, quota_phrases=phrases)
    text = "".join([decoder.feed(piece) for piece in pieces])
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


# Pieces of all that is special, cut anywhere, among text and noise.
fragments = (
    st.sampled_from([TAIL, PHRASE.encode(), b"Quota used up", b"Quit", b" ", b"I", "é🙂".encode()])
    | st.text(max_size=6).map(str.encode)
    | st.binary(max_size=4)
)


@st.composite
def split_bodies(draw: st.DrawFn) -> list[bytes]:
    """The pieces of a body: its fragments as they are, or the same bytes cut elsewhere."""
    pieces = draw(st.lists(fragments, max_size=5))
    if draw(st.booleans()):
        return pieces
    body = b"".join(pieces)
    cuts = sorted(draw(st.sets(st.integers(0, len(body)), max_size=6)) | {0, len(body)})
    return [body[a:b] for a, b in itertools.pairwise(cuts)]


def may_be_phrase(body: bytes) -> bool:
    stripped = body.strip()
    near = len(body) - len(stripped) <= 8
    return near and any(phrase.encode().startswith(stripped) for phrase in PHRASES)


# --- text -------------------------------------------------------------------------------------


@settings(steady, max_examples=400)
@given(split_bodies(), st.booleans())
def test_any_split_of_any_body(pieces: list[bytes], framed: bool) -> None:
    """Text and failure depend on the bytes alone, and, where framed, on a last piece of tail."""
    body = b"".join(pieces)
    last = ([b"", *filter(None, pieces)])[-1]
    text, failure = decode(pieces, framed=framed)
    if may_be_phrase(body) and body.strip().decode("utf-8", "replace") in PHRASES:
        assert (text, failure) == ("", RateLimitError)
    elif last == TAIL if framed else body.endswith(TAIL):
        assert (text, failure) == (text_of(body[: -len(TAIL)])[0], StreamInterruptedError)
    else:
        whole_text, cut = text_of(body)
        assert text == whole_text
        expected = StreamInterruptedError if cut else None
        assert failure is (expected if body else EmptyReplyError)


@steady
@given(split_bodies(), st.booleans())
def test_text_comes_as_early_as_possible(pieces: list[bytes], framed: bool) -> None:
    """A feed holds back a cut character, and what may yet be the tail or a quota sentence."""
    decoder = ReplyDecoder(framed=framed, quota_phrases=PHRASES)
    given_out, body, before = "", b"", b""
    for piece in filter(None, pieces):
        given_out += decoder.feed(piece)
        body += piece
        if not given_out and may_be_phrase(body):
            before = body
            continue
        certain = body
        if framed:
            certain = before if piece == TAIL else body
        else:
            lengths = range(len(TAIL), 0, -1)
            held = next((n for n in lengths if body.endswith(TAIL[:n])), 0)
            certain = body[: len(body) - held]
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        assert given_out == utf8.decode(certain)
        before = body


@steady
@given(st.text(max_size=12), st.booleans())
def test_byte_by_byte(text: str, framed: bool) -> None:
    """A text that comes one byte at a time is put together whole."""
    assert decode(bytewise(text.encode()), framed=framed, phrases=())[0] == text


@both
def test_every_character_at_once(framed: bool) -> None:
    """A character is given out with the byte that completes it, and not before."""
    decoder = ReplyDecoder(framed=framed)
    given_out = [decoder.feed(piece) for piece in bytewise("aé你🙂".encode())]
    assert given_out == ["a", "", "é", "", "", "你", "", "", "", "🙂"]


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
def test_bytes_are_kept(body: bytes, text: str, framed: bool) -> None:
    """Invalid bytes become U+FFFD; every valid character is kept, a BOM and NUL included."""
    for pieces in [[body], bytewise(body), *halves(body)]:
        assert decode(pieces, framed=framed) == (text, None)


@both
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_incomplete_character_at_the_end(cut: int, framed: bool) -> None:
    """A body that ends in the middle of a character is not a whole answer."""
    pieces = [b"ok ", "🙂".encode()[:cut]]
    assert decode(pieces, framed=framed) == ("ok ", StreamInterruptedError)


@both
@pytest.mark.parametrize("pieces", [[], [b""], [b"", b""]], ids=repr)
def test_empty_reply(pieces: list[bytes], framed: bool) -> None:
    """A body without a byte is an EmptyReplyError."""
    assert decode(pieces, framed=framed) == ("", EmptyReplyError)


@both
def test_empty_pieces_change_nothing(framed: bool) -> None:
    """An empty piece gives no text, and does not come between a piece and the end."""
    assert decode([b"", b"a", b"", TAIL, b""], framed=framed) == ("a", StreamInterruptedError)


# --- the failure tail -------------------------------------------------------------------------


def test_the_tail() -> None:
    """The failure tail is the words that the servers append."""
    assert TAIL == b"Internal server error"


@both
def test_tail_after_text(framed: bool) -> None:
    """The tail as a last piece of its own is a failure, and is not text."""
    assert decode([b"Once upon", TAIL], framed=framed) == ("Once upon", StreamInterruptedError)


@both
def test_tail_as_whole_body(framed: bool) -> None:
    """The tail as the whole body is a failure without text, and not an empty reply."""
    assert decode([TAIL], framed=framed) == ("", StreamInterruptedError)


@both
def test_tail_twice(framed: bool) -> None:
    """Where the tail comes twice, the first one is text and the second is the failure."""
    text = TAIL.decode()
    assert decode([TAIL, TAIL], framed=framed) == (text, StreamInterruptedError)


@both
def test_tail_before_more_text(framed: bool) -> None:
    """The tail with anything after it is text."""
    text, failure = decode([b"a ", TAIL, b"!"], framed=framed)
    assert (text, failure) == (f"a {TAIL.decode()}!", None)


@both
def test_tail_after_a_cut_character(framed: bool) -> None:
    """A character that the failure cuts off is left out of the text."""
    pieces = [b"ok ", "🙂".encode()[:2], TAIL]
    assert decode(pieces, framed=framed) == ("ok ", StreamInterruptedError)


def test_tail_in_a_larger_chunk_is_text() -> None:
    """In a framed body, the tail's words inside a larger chunk are text."""
    for chunk in [b"An " + TAIL, TAIL + b"\n", b" " + TAIL, TAIL + TAIL]:
        assert decode([b"a", chunk], framed=True) == ("a" + chunk.decode(), None)
        assert decode([chunk], framed=True) == (chunk.decode(), None)


def test_tail_over_two_chunks_is_text() -> None:
    """In a framed body, the tail's words split over two chunks are text."""
    for first, second in list(halves(TAIL))[1:-1]:
        assert decode([b"a", first, second], framed=True) == ("a" + TAIL.decode(), None)


def test_tail_is_case_sensitive() -> None:
    """Words that only resemble the tail are text."""
    for chunk in [TAIL.lower(), TAIL + b".", TAIL[:-1]]:
        assert decode([b"a", chunk], framed=True) == ("a" + chunk.decode(), None)


@pytest.mark.parametrize("before", [b"", b"Once ", b"I", TAIL, "🙂".encode()[:1]], ids=repr)
def test_unframed_tail_however_split(before: bytes) -> None:
    """In an unframed body, the tail's bytes at the end are a failure however they are split."""
    body = before + TAIL
    expected = (text_of(before)[0], StreamInterruptedError)
    for pieces in [[body], bytewise(body), *halves(body)]:
        assert decode(pieces, framed=False) == expected


def test_unframed_beginning_of_the_tail_is_text() -> None:
    """In an unframed body, an end that is only the beginning of the tail is text."""
    for length in range(1, len(TAIL)):
        body = b"a " + TAIL[:length]
        assert decode(bytewise(body), framed=False) == (body.decode(), None)


def test_failure_says_what_to_do() -> None:
    """The failure says that the answer is not whole, and to send the prompt again."""
    decoder = ReplyDecoder(framed=True)
    decoder.feed(TAIL)
    _, error = decoder.finish()
    assert "not whole. Send it again" in str(error)


# --- the quota sentence -----------------------------------------------------------------------


@both
@pytest.mark.parametrize("around", [("", ""), ("\n", ""), (" ", " \r\n")], ids=repr)
@pytest.mark.parametrize("phrase", PHRASES)
def test_quota_sentence_however_split(phrase: str, around: tuple[str, str], framed: bool) -> None:
    """A quota sentence as the whole body, spaces aside, is a RateLimitError without text."""
    body = phrase.join(around).encode()
    for pieces in [[body], bytewise(body), *halves(body)]:
        assert decode(pieces, framed=framed) == ("", RateLimitError)


def test_quota_sentence_is_quoted() -> None:
    """The error for the quota sentence has the sentence, and the status that it came with."""
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
def test_near_quota_sentence_is_text(body: str, framed: bool) -> None:
    """A body that only begins like, ends like or contains a quota sentence is text."""
    data = body.encode()
    for pieces in [[data], bytewise(data), *halves(data)]:
        assert decode(pieces, framed=framed) == (body, None)


@both
def test_near_quota_sentence_is_given_out_at_once(framed: bool) -> None:
    """What was held back as a quota sentence is given out with the first byte that differs."""
    decoder = ReplyDecoder(framed=framed, quota_phrases=PHRASES)
    assert decoder.feed(b"Quit") == ""
    assert decoder.feed(b"s") == "Quits"
    assert decoder.feed(b"Quit") == "Quit"


@both
def test_quota_sentence_after_text_is_text(framed: bool) -> None:
    """A quota sentence that is the last piece, but not the whole body, is text."""
    assert decode([b"a", PHRASE.encode()], framed=framed) == ("a" + PHRASE, None)
    # A sentence that begins like the tail is held back for another reason.
    assert decode([b"a ", b"Inter"], framed=framed, phrases=["Inter"]) == ("a Inter", None)


@both
def test_quota_sentence_before_the_tail_is_text(framed: bool) -> None:
    """A quota sentence before the tail is the text of a reply that failed."""
    assert decode([PHRASE.encode(), TAIL], framed=framed) == (PHRASE, StreamInterruptedError)


@both
@pytest.mark.parametrize("phrases", [(), ("",)], ids=repr)
def test_no_quota_sentences(phrases: Sequence[str], framed: bool) -> None:
    """Without quota sentences, or with an empty one, nothing is held back or taken for one."""
    decoder = ReplyDecoder(framed=framed, quota_phrases=phrases)
    assert decoder.feed(b" ") == " "
    assert decode([PHRASE.encode()], framed=framed, phrases=phrases) == (PHRASE, None)
    assert decode([], framed=framed, phrases=phrases) == ("", EmptyReplyError)


@both
@pytest.mark.parametrize("spaces", [1, 7, 8, 9, 20])
@pytest.mark.parametrize("phrase", PHRASES)
def test_spaces_around_a_quota_sentence(phrase: str, spaces: int, framed: bool) -> None:
    """How many spaces may surround a quota sentence does not depend on how the body is split."""
    body = b" " * spaces + phrase.encode()
    splits = [[body], bytewise(body), *halves(body)]
    assert len({decode(pieces, framed=framed) for pieces in splits}) == 1


# --- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("piece", "framed"),
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
def test_memory_is_bounded(piece: bytes, framed: bool) -> None:
    """What a decoder holds does not grow with what it was fed."""
    decoder = ReplyDecoder(framed=framed, quota_phrases=PHRASES)
    decoder.feed(piece)
    tracemalloc.start()
    try:
        for _ in range(300):
            decoder.feed(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000
