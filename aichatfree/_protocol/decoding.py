"""Bytes to text: UTF-8 across reads, and the ways a failure hides in a reply. Pure, no I/O."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Final

from ..errors import APIError, EmptyReplyError, StreamInterruptedError
from .responses import quota_error

FAILURE_TAIL: Final = b"Internal server error"
"""What the servers append, as a last HTTP chunk of its own, when they fail in mid answer."""

_MOST_SPACES: Final = 8  # bytes of white space around a quota sentence


class ReplyDecoder:
    """Turns the pieces of one reply's body into text, and tells at its end what it was.

    A piece that may be the failure tail is held back until the next one, or the end, shows what
    it is. So is a whole body that may be a sentence which means "quota used up".

    Args:
        framed: whether each piece is one HTTP chunk. The tail is then recognised as a chunk of
            its own. Otherwise (a body with a Content-Length, or ended by closing the connection)
            boundaries are lost, and a body that ends with the tail's bytes counts as failed.
        quota_phrases: sentences that mean "quota used up" when they are the whole body.
    """

    def __init__(self, *, framed: bool, quota_phrases: Sequence[str] = ()) -> None:
        self._framed = framed
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""
        self._quota_phrases = [phrase.encode() for phrase in quota_phrases if phrase]
        self._started = False
        self._settled = False  # whether nothing of what came so far is held back

    def feed(self, piece: bytes) -> str:
        """The text that is certain after one more piece; ``""`` if none is."""
        if not piece:
            return ""
        if self._settled and piece != FAILURE_TAIL:
            try:
                return piece.decode()  # the usual case, three times as fast
            except UnicodeDecodeError:
                pass
        data = self._held + piece
        keep = self._uncertain(data, piece)
        self._held = data[len(data) - keep :]
        self._started = self._started or keep < len(data)
        text = self._utf8.decode(data[: len(data) - keep])
        self._settled = self._framed and not self._held and not self._utf8.getstate()[0]
        return text

    def finish(self) -> tuple[str, APIError | None]:
        """The rest of the text at a clean end of the body, and the failure that it hides."""
        held, self._held = self._held, b""
        if not self._started and held.strip() in self._quota_phrases:
            return "", quota_error(held.decode().strip())
        if held == FAILURE_TAIL:
            return "", StreamInterruptedError(
                "The site failed while it was answering: the answer is not whole. Send it again."
            )
        text = self._utf8.decode(held)
        if self._utf8.getstate()[0]:
            return text, StreamInterruptedError(
                "The answer ended in the middle of a character, so it is not whole. Send it again."
            )
        if not self._started and not text:
            return "", EmptyReplyError(
                "The site ended its answer without any text: mostly its safety filter, sometimes "
                "a hiccup. Word the prompt differently, or send it again."
            )
        return text, None

    def _uncertain(self, data: bytes, piece: bytes) -> int:
        """How many bytes at the end of what is pending can mean two things."""
        if not self._started and self._may_be_quota_phrase(data):
            return len(data)
        if self._framed:
            return len(piece) if piece == FAILURE_TAIL else 0
        longest = min(len(data), len(FAILURE_TAIL))
        return next((n for n in range(longest, 0, -1) if FAILURE_TAIL.startswith(data[-n:])), 0)

    def _may_be_quota_phrase(self, data: bytes) -> bool:
        body = data.lstrip()
        if len(data) - len(body) > _MOST_SPACES:
            return False
        return any(
            phrase.startswith(body)
            or (body.rstrip() == phrase and len(body) - len(phrase) <= _MOST_SPACES)
            for phrase in self._quota_phrases
        )
