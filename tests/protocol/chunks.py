"""Bodies cut into chunks, and what a decoder makes of them."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from aichatfree import Site
from aichatfree._protocol.decoding import ReplyDecoder
from aichatfree.errors import APIError

TAIL: Final = b"Internal server error"
PHRASE: Final = "当前地区当日额度已消耗完"
PHRASES: Final = (PHRASE, "Quota used up", "Quit")

SITE: Final = Site(quota_phrases=PHRASES)

both = pytest.mark.parametrize("framed", [True, False], ids=["framed", "unframed"])


def decode(
    chunks: Sequence[bytes],
    *,
    framed: bool,
    phrases: Sequence[str] = PHRASES,
    site: Site | None = None,
) -> tuple[str, type[APIError] | None]:
    """All the text of a body, and the class of its error."""
    decoder = ReplyDecoder(framed=framed, site=site or Site(quota_phrases=phrases))
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
