"""Bytes to text, and what the body of a response with status 200 turned out to be. Pure, no I/O."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Final

from ..errors import APIError, EmptyReplyError, StreamInterruptedError
from .endings import Ending
from .events import END_MARK, EventDecoder, may_be_events
from .openings import TOOL_TAGS, Opening
from .responses import content_type, error_in_body, notice_error, stopped_early, web_page_error
from .sites import Site

_NO_TEXT: Final = (
    "The site ended its answer without any text: its model's safety filter blocked it, or the "
    "model service behind the site failed. Send it again, or word the prompt differently."
)

_Utf8Decoder: Final = codecs.getincrementaldecoder("utf-8")

_GLUED: Final = frozenset(b"<ABCDEFGHIJKLMNOPQRSTUVWXYZ") | frozenset(range(0xC0, 0x100))
"""The first bytes of a web page, a capital letter, or another character that is not ASCII."""

_WIDE_COLON: Final = "：".encode()


def _interrupted(what: str) -> StreamInterruptedError:
    return StreamInterruptedError(f"{what}: the answer is incomplete. Send it again.")


class ReplyDecoder:
    """Turns the chunks of one response's body into text, and tells at its end what it was.

    Whatever may be something else than a part of the answer is held back until the next chunk, or
    the end, shows what it is: a failure at the end (:class:`Ending`), reasoning, a web page or a
    refusal at the beginning (:class:`Opening`).

    Args:
        framed: whether each chunk is one HTTP chunk as the server sent it. Otherwise (a body with
            a Content-Length, or ended by closing the connection) their boundaries mean nothing.
        site: its own sentences, and what it does not look for (``Site.ignore``).
        headers: of the response.
        complete: whether the body has arrived completely, so that holding back costs no time.
    """

    def __init__(
        self,
        *,
        framed: bool,
        site: Site | None = None,
        headers: Mapping[str, str] | None = None,
        complete: bool = False,
    ) -> None:
        self._site = site = site or Site()
        self._headers = headers or {}
        self._utf8 = _Utf8Decoder("replace")
        self._may_be_events = site.looks_for("events")
        failures = site.dialect.failure_tails if site.looks_for("failure_tails") else ()
        marks = (END_MARK,) if self._may_be_events else ()
        self._ending = Ending(
            framed=framed,
            tails=dict.fromkeys(failures, True) | dict.fromkeys(marks, False),
            notices=site.looks_for("notices"),
        )
        self._is_suspicious = self._ending.is_suspicious
        self._opening = Opening(
            sentences=site.refusals if site.looks_for("refusals") else None,
            reasoning=site.looks_for("reasoning"),
            web_pages=site.looks_for("web_pages"),
            complete=complete,
        )
        self._events: EventDecoder | None = None
        self._first = b""
        self._labelled = content_type(self._headers) == "text/event-stream"
        self._length = 0  # of the text so far, as far as it was looked at
        self._has_words = False  # whether more than white space was among it
        self._plain = False  # whether the next chunk is text unless it is suspicious

    @property
    def reasoning(self) -> str:
        """The reasoning that came before the answer, so far."""
        told = self._events.reasoning if self._events else []
        return "".join(self._opening.reasoning + told)

    def feed(self, chunk: bytes) -> str:
        """The text that is certain after one more chunk; ``""`` if none is.

        Raises:
            ProtocolError: the body is a web page.
        """
        if not chunk:
            return ""
        if self._plain and not (
            self._is_suspicious(chunk) or chunk.isspace() or self._is_glued(chunk)
        ):
            try:
                text = chunk.decode()  # the usual case, three times as fast
            except UnicodeDecodeError:
                pass
            else:
                self._ending.release(chunk)
                if not self._opening.settled:
                    return self._open(text)
                if self._opening.body is not None:
                    self._opening.remember(text)
                    self._length += len(text)
                return text
        if self._may_be_events:
            self._first += chunk
            verdict = may_be_events(self._first, labelled=self._labelled)
            if verdict is None:
                return ""
            chunk = self._begin(verdict)
        if self._events is not None:
            return "".join([self._take(text.encode()) for text in self._events.feed(chunk)])
        return self._take(chunk)

    def _is_glued(self, chunk: bytes) -> bool:
        """Whether a sentence or a web page begins where a sentence has not ended."""
        if chunk[0] not in _GLUED:
            return False
        last = self._ending.before[-1:]
        if not (last.isalnum() or last in b",(" or last >= b"\x80"):
            return False
        if chunk[:1] == b"<" or chunk[:4].decode("utf-8", "ignore")[:1].isupper():
            return True
        return _WIDE_COLON in chunk  # as after a label

    def finish(self) -> tuple[str, APIError | None]:
        """The rest of the text at a clean end of the body, and the failure that it hides."""
        text = ""
        if self._first:
            verdict = may_be_events(self._first + b"\n", labelled=self._labelled)
            text = self.feed(self._begin(bool(verdict)))
        if self._events is not None:
            text += "".join([self._take(more.encode()) for more in self._events.finish()])
        rest, failed = self._ending.finish()
        text += self._opening.feed(self._utf8.decode(rest))
        held = self._opening.finish()
        if self._opening.web_page:
            return text, web_page_error(held)
        self._note(text + held)
        cut = bool(self._utf8.getstate()[0])
        failure = self._failure_at_end(failed, cut)
        if failure is None and not cut and self._opening.body is not None:
            failure = error_in_body(self._opening.body, self._headers, self._site)
            if failure is not None:
                return text, failure
        if failure is None and not self._length:
            failure = self._without_text()
        return text + held, failure

    def _begin(self, is_events: bool) -> bytes:
        """The bytes with which the body begins, now that it is known what they are."""
        self._may_be_events = False
        self._events = EventDecoder() if is_events else None
        first, self._first = self._first, b""
        return first

    def _take(self, data: bytes) -> str:
        data = self._ending.feed(data, answered=self._length or self._opening.answered)
        text = self._open(self._utf8.decode(data))
        self._plain = (
            self._events is None and self._ending.is_clear and not self._utf8.getstate()[0]
        )
        return text

    def _open(self, text: str) -> str:
        text = self._opening.feed(text)
        if self._opening.web_page:
            raise web_page_error(self._opening.finish())
        if text:
            self._note(text)
        return text

    def _note(self, text: str) -> None:
        self._length += len(text)
        self._has_words = self._has_words or bool(text.strip())

    def _failure_at_end(self, failed: bool, cut: bool) -> APIError | None:
        if failed and self._ending.notice:
            return notice_error(self._ending.notice, self._has_words, self._site)
        if failed:
            return _interrupted("The site failed while it was answering")
        if self._events is not None and (error := self._failure_of_events(self._events)):
            return error
        if self._opening.in_block:
            return _interrupted("The site's text ended before the answer began")
        if cut:
            return _interrupted("The text ended in the middle of a character")
        return None

    def _failure_of_events(self, events: EventDecoder) -> APIError | None:
        if events.error:
            return notice_error(events.error, self._has_words, self._site)
        if events.stopped:
            return stopped_early(events.stopped)
        if (events.unknown or events.malformed) and not self._length:
            return web_page_error(events.error, "an event stream of an unknown kind")
        if events.malformed:
            return _interrupted("An event of the site's stream could not be read")
        return None if events.complete else _interrupted("The event stream ended too early")

    def _without_text(self) -> APIError:
        if self._opening.blocks.intersection(TOOL_TAGS):
            return _interrupted("The site called its tools but did not answer")
        return EmptyReplyError(_NO_TEXT)
