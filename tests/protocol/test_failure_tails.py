"""The words that servers append to an answer when they fail."""

from __future__ import annotations

import pytest

from aichatfree._protocol.decoding import ReplyDecoder
from aichatfree.errors import StreamInterruptedError

from .chunks import TAIL, both, bytewise, decode, halves, text_of


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
    """After a space, or before one, the words of the failure tail in a larger chunk are text."""
    for chunk in [b"An " + TAIL, TAIL + b"\n", b" " + TAIL]:
        assert decode([b"It says: ", chunk], framed=True) == ("It says: " + chunk.decode(), None)


@both
def test_tail_after_a_character_in_the_same_chunk(framed: bool) -> None:
    """The failure tail after a character that is not a space is a failure, as proxies merge it."""
    chunks = ["Привет, мир! 😀👩".encode() + TAIL]
    assert decode(chunks, framed=framed) == ("Привет, мир! 😀👩", StreamInterruptedError)


def test_a_larger_chunk_with_the_tail_is_returned_immediately() -> None:
    """In a framed body, a chunk that ends with the failure tail is not held back."""
    chunk = b"An " + TAIL
    assert ReplyDecoder(framed=True).feed(chunk) == chunk.decode()


@both
def test_tail_in_any_case(framed: bool) -> None:
    """The failure tail is one in capital letters too, and not with anything after it."""
    for chunk in [TAIL.lower(), TAIL.upper(), TAIL.title()]:
        assert decode([b"a", chunk], framed=framed) == ("a", StreamInterruptedError)
    before = "Once upon a time there was a status of "
    for chunk in [TAIL + b".", TAIL[:-1]]:
        assert decode([before.encode(), chunk], framed=framed) == (before + chunk.decode(), None)


@both
@pytest.mark.parametrize("before", [b"", b"Once", b"I", TAIL, "🙂".encode()[:1]], ids=repr)
def test_tail_however_split(before: bytes, framed: bool) -> None:
    """The failure tail after a character that is not a space is an error however it is split."""
    body = before + TAIL
    expected = (text_of(before)[0], StreamInterruptedError)
    for chunks in [[body], bytewise(body), *halves(body)]:
        assert decode(chunks, framed=framed) == expected


def test_unframed_tail_after_a_space_is_text() -> None:
    """In an unframed body, the words of the failure tail after a space or a line end are text."""
    for before in ["It said: ", "It said:\n"]:
        body = before.encode() + TAIL
        for chunks in [[body], bytewise(body), *halves(body)]:
            assert decode(chunks, framed=False) == (body.decode(), None)


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


def test_the_end_mark_of_events_is_removed() -> None:
    """OpenAI's end mark as a last chunk, or glued to the text, is not part of it."""
    for chunks in [[b"Hello.", b"[DONE]"], [b"Hello.[DO", b"NE]"]]:
        assert decode(chunks, framed=True) == ("Hello.", None)
    assert decode([b"Hello.\n", b"[DONE]"], framed=True) == ("Hello.\n", None)


def test_the_end_mark_after_a_space_is_text() -> None:
    """OpenAI's end mark after a space or a line break in a chunk is text, as in a list."""
    assert decode([b"Milk [DONE]"], framed=True) == ("Milk [DONE]", None)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ("The city proper is smaller than the metropolitan area", "TypeError: terminated"),
        ("It was built as the", "Error: 429 Too Many Requests"),
        ("It has a population of 2.1 million,", "Connection reset by peer"),
        ("Город был построен как столица", "Ошибка: соединение с сервером потеряно"),
        ("Die drei Farben sind Rot, Blau und", "Fehler: Verbindung zum Server unterbrochen"),
    ],
)
def test_a_failure_glued_to_a_word(answer: str, failure: str) -> None:
    """A sentence about a failure that is glued to a word is one, however the body is split."""
    body = (answer + failure).encode()
    for chunks in [bytewise(body), *halves(body)]:
        assert decode(chunks, framed=False) == (answer, StreamInterruptedError)


@pytest.mark.parametrize(
    "answer",
    [
        "The handler for that is called axiosError: connection refused",
        "The exception is called CustomTypeError: connection failed",
        "The browser has JavaScript errors and YouTube failed to load.",
        "In programs it is written `try {} catch (aTypeError: terminated)`",
    ],
)
def test_a_name_in_a_program_is_no_failure(answer: str) -> None:
    """A capital letter inside a name does not begin a failure, however the body is split."""
    body = answer.encode()
    for chunks in [bytewise(body), *halves(body)]:
        assert decode(chunks, framed=False) == (answer, None)


@both
def test_a_tail_that_is_explained(framed: bool) -> None:
    """After a colon the tail is a failure only in the server's own letters."""
    item = "- **503**：Service Unavailable\n- **500**："
    title = TAIL.title().decode()
    assert decode([(item + title).encode()], framed=framed) == (item + title, None)
    assert decode([item.encode() + TAIL], framed=framed) == (item, StreamInterruptedError)
