"""Answers with status 200 that are a site's sentence for an exhausted quota."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aichatfree import Site
from aichatfree._protocol.decoding import ReplyDecoder
from aichatfree.errors import EmptyReplyError, RateLimitError, StreamInterruptedError

from .chunks import PHRASE, PHRASES, SITE, TAIL, both, bytewise, decode, halves


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
    decoder = ReplyDecoder(framed=True, site=SITE)
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
        "注意: " + PHRASE,
        PHRASE[:-1] + "了",
        "Quit smoking",
        "Qu",
        "Q",
        " ",
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
    decoder = ReplyDecoder(framed=framed, site=SITE)
    assert decoder.feed(b"Quit") == ""
    assert decoder.feed(b"s") == "Quits"
    assert decoder.feed(b"Quit") == "Quit"


@both
def test_quota_phrase_after_text_is_text(framed: bool) -> None:
    """A quota phrase that follows other text is text."""
    assert decode([b"Text: ", PHRASE.encode()], framed=framed) == ("Text: " + PHRASE, None)
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
    decoder = ReplyDecoder(framed=framed, site=Site(quota_phrases=phrases))
    assert decoder.feed(b"Quit") == "Quit"
    assert decode([], framed=framed, phrases=phrases) == ("", EmptyReplyError)


@both
def test_refusals_can_be_ignored(framed: bool) -> None:
    """A site that does not look for refusals takes every sentence for an answer."""
    decoder = ReplyDecoder(framed=framed, site=Site(ignore=["refusals"]))
    assert decoder.feed(PHRASE.encode()) + decoder.finish()[0] == PHRASE
    assert decoder.finish()[1] is None


@both
@pytest.mark.parametrize("spaces", [1, 7, 8, 9, 20])
@pytest.mark.parametrize("phrase", PHRASES)
def test_spaces_around_a_quota_phrase(phrase: str, spaces: int, framed: bool) -> None:
    """How many spaces may surround a quota phrase does not depend on how the body is split."""
    body = b" " * spaces + phrase.encode()
    splits = [[body], bytewise(body), *halves(body)]
    assert len({decode(chunks, framed=framed) for chunks in splits}) == 1
