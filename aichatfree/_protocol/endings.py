"""How a body ends although the answer in it failed: ``Ending`` holds that back. Pure, no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from . import phrases

MAX_DETAILS: Final = 16 * 1024
"""Bytes after a notice that are taken for its details, such as the web page of a proxy."""

_MAX_BEGINNING: Final = 2048
"""Bytes of a notice and its details that are looked at."""

_QUOTED: Final = "> **"
_CLOSING: Final = {
    "[": "]",
    "【": "】",
    "(": ")",
    "（": "）",
    "*": "*",
    "_": "_",
    _QUOTED: "**",
}
_SIGNS: Final = "⚠❌⛔🚫"
_ERROR: Final = b'{"error"'
_SIGN: Final = rb"[ \t\r]*(?:\*|_|\(|>|%b)" % b"|".join(
    mark.encode() for mark in ("【", "（", *_SIGNS)
)
_MARK: Final = re.compile(
    rb"\[|\{\s*\"|(?:^|\n)%b|(?:^|\n[ \t\r]*)\n(?=\*\*|[\w\xc3-\xf4])"
    rb"|(?:^|(?<=[a-z0-9,\x80-\xbf])|(?<=[^\s\d])(?=\d))(?:[A-Z<]|\xd0[\x90-\xaf]|[45]\d\d [A-Z])"
    % _SIGN
)
"""Where a notice may begin: a sign, a paragraph, or what is glued to a word."""

_IN_WORDS: Final = re.compile(rb"\*\*|(?!%b)[\w\xc3-\xf4<]" % _SIGN)
"""How a failure begins that has no sign: after a cut sentence, or glued to the text before."""

_ANY_CASE: Final = 4
"""Letters of a tail from which on upper and lower case are the same."""

_EXPLAINED: Final = re.compile('(?:[:=|>(`"*]|：|（|—|→)$'.encode())
"""How a text ends that names or explains the words of a tail, in capital letters of its own."""

_CONTEXT: Final = 256
"""Bytes of text that are remembered, to know what a failure follows."""

_CUT_OFF_END: Final = re.compile(r"[^\W_]$|[,;(|，、；（-]$|(?:^|\n)\s*\d+\.$")
"""How an answer ends that was cut off."""

_CUT_SENTENCE: Final = re.compile(
    r"(?:^|\n)(?!\s*(?:[-*+•#>|]|\d+[.)]))(?:[^\n]{60,}|[^\n]*[\u3040-\ua4cf\uac00-\ud7af][^\n]{20,})"
    r"(?:[^\W_]|[,;，、；])$"
)
"""A last line that is too long for a heading, in which a sentence stops in the middle."""

_SENTENCE_END: Final = re.compile(r"[^\W\d_]{2}[.!?…][\"')”’»]*$|[。！？]$")
"""How a sentence ends, not an abbreviation or a number."""

_KEY_AND_VALUE: Final = re.compile(r"\n[^\n:：]{1,30}[:：][^\n]*$")
"""A last line such as "Priority: P1", which other lines follow."""

_CUT_OFF: Final = 12
"""Characters of the shortest answer that is seen to be cut off."""

_PROSE: Final = re.compile(
    r"\w+[,;]? (?:\S+ )*(?!(?:on|is|as|to|my|set|get|last|parse|handle|fetch|axios|http|api)$)"
    r"(?:(?![A-Z][a-z])[^\W\d_]*[^\W\dA-Z_]|\d+|\w+,)$"
)
"""How a text ends that a failure may be glued to: not like names in programs, such as onError."""

_EVENT: Final = "data:"
_GOES_ON: Final = re.compile(rb"(?!data:)[a-z]")
_LAST_WORDS: Final = 8
"""Bytes of the shortest paragraph that can be a refusal."""

_BLANK_LINE: Final = re.compile(rb"(?:^|\n[ \t\r]*\n)[ \t\r]*$")

_SPLIT: Final = re.compile(
    rb"(?:[\xc0-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf7][\x80-\xbf]{0,2})\Z"
)
"""A character that was split between two chunks; it may be a sign."""

_PARAGRAPHS: Final = re.compile(rb"\n[ \t\r]*\n")
"""What separates two paragraphs."""


class Ending:
    """Holds back the bytes at the end of a body that may be a failure, and tells if they are.

    A failure is one of the tails, glued to a character that is not a space or as a last HTTP chunk
    of its own; a notice such as ``[upstream error 502] ...`` as a last paragraph or chunk; or a
    refusal such as ``Rate limit exceeded, try again later`` as a last paragraph in its own chunk,
    after a sentence that was cut off, or glued to the text.

    Args:
        framed: whether each chunk is one HTTP chunk, as the server sent it.
        tails: what servers append to an answer, and whether it says that they failed.
        notices: whether to look for notices.

    Attributes:
        before: the last bytes that were released.
        is_suspicious: whether a chunk may begin a failure, for chunks that do not begin a line.
        notice: after :meth:`finish`, the text of the notice; ``""`` if there was none.
    """

    def __init__(self, *, framed: bool, tails: Mapping[str, bool], notices: bool) -> None:
        self._framed = framed
        self._tails = {tail.encode(): failed for tail, failed in tails.items() if tail}
        self._beginnings = _beginnings(tuple(self._tails))
        self._notices = notices
        self.before = b""
        self._held = b""
        self._notice_held = False
        self._own_tail = False  # whether the last chunk is a tail
        self._refusal = 0  # bytes of the chunk, held back, that is a last paragraph and a refusal
        self.is_suspicious = _suspicious(tuple(tails), notices).search
        self.notice = ""

    @property
    def is_clear(self) -> bool:
        """Whether nothing is held back and the next chunk does not begin a line."""
        return not self._held and self.before[-1:] not in (b"\n", b"")

    def feed(self, chunk: bytes, *, answered: int = 0) -> bytes:
        """What is certain to be text after one more chunk.

        Args:
            chunk: the chunk.
            answered: characters before it that are known to be an answer.
        """
        data = self._held + chunk
        begin = len(self._held)
        self._own_tail = self._framed and chunk.lower() in self._beginnings[: len(self._tails)]
        keep = min(self._tail_begins(data, begin), self._notice_begins(data, begin))
        goes_on = self._refusal > 0 and not self._adds_other_paragraph(data)
        paragraph = 0 if goes_on else begin
        if not (answered > 0 and self._are_last_words(data, paragraph, answered)):
            self._refusal = 0
        else:
            self._refusal = self._refusal if goes_on else len(chunk)
            keep = min(keep, paragraph)
        self._held = data[keep:]
        self.before = self._context(data, keep)
        return data[:keep]

    def release(self, chunk: bytes) -> None:
        """Note that a chunk was released without being looked at."""
        self.before = (self.before + chunk)[-_CONTEXT:]

    def _context(self, data: bytes, end: int) -> bytes:
        """The last bytes of the text up to this place in what came after ``before``."""
        return (self.before + data[max(0, end - _CONTEXT) : end])[-_CONTEXT:]

    def finish(self) -> tuple[bytes, bool]:
        """The rest of the text at the end of the body, and whether it ended with a failure."""
        held = self._held
        if self._refusal or (self._notice_held and _notice_in(held) is True):
            self.notice = held.decode("utf-8", "replace").strip()
            return b"", True
        everything = self.before + held
        for tail, failed in self._tails.items():
            if everything.lower().endswith(tail.lower()):
                before = everything[: -len(tail)]
                explained = _EXPLAINED.search(before) and not everything.endswith(tail)
                if (self._own_tail or not before[-1:].isspace()) and not explained:
                    return held[: -len(tail)], failed
        return held, False

    def _tail_begins(self, data: bytes, begin: int) -> int:
        if self._own_tail:
            return begin
        if not data.lower().endswith(self._beginnings):
            return len(data)
        for tail in self._tails:
            end = data[-len(tail) :]
            for length in range(len(end), 0, -1):
                before = self._context(data, len(data) - length)[-1:]
                if _is_beginning(tail, end[-length:]) and not before.isspace():
                    return len(data) - length
        return len(data)

    def _notice_begins(self, data: bytes, begin: int) -> int:
        if not self._notices:
            return len(data)
        if self._notice_held and _notice_in(data) is not False:
            return 0
        self._notice_held = False
        may_begin = self.is_suspicious(data) or _MARK.match(data)
        # A notice with its details is no longer than that.
        marks = _MARK.finditer(data, max(0, len(data) - MAX_DETAILS)) if may_begin else ()
        for mark in marks:
            start = mark.start() + len(mark[0]) - len(mark[0].lstrip())
            if not self._may_begin(data, start, begin):
                continue
            if _notice_in(data[start:]) is not False:
                self._notice_held = True
                # The space before a notice is not part of the answer.
                return len(data[:start].rstrip())
        split = _SPLIT.search(data[-3:])
        return len(data) - len(split[0]) if split else len(data)

    def _adds_other_paragraph(self, data: bytes) -> bool:
        """Whether the refusal is followed by a paragraph that does not belong to it."""
        after = data[len(data[: self._refusal].rstrip()) :]
        blank = _PARAGRAPHS.search(after)
        added = after[blank.end() :].decode("utf-8", "ignore").strip() if blank else ""
        return bool(added) and not phrases.goes_on_with_refusal(added)

    def _are_last_words(self, data: bytes, start: int, answered: int) -> bool:
        """Whether the chunks from there on are a refusal: a paragraph, or after a cut sentence."""
        paragraph = data[start:]
        before = self._context(data, start)
        edge = before[-1:] + paragraph[:2]
        if b"\n" not in edge and (edge[:2].strip() != edge[:2] or _GOES_ON.match(paragraph)):
            return False  # most chunks
        has_other_length = not _LAST_WORDS <= len(paragraph) <= MAX_DETAILS
        if has_other_length or not (self._framed and self._notices and before):
            return False
        end = before.decode("utf-8", "ignore")
        text = paragraph.decode("utf-8", "ignore")
        space = end[len(end.rstrip()) :] + text[: len(text) - len(text.lstrip())]
        text = text.lstrip()
        cut_off = answered >= _CUT_OFF and bool(_CUT_OFF_END.search(end.rstrip()))
        if text.startswith(_EVENT):
            return _is_error_object(text.removeprefix(_EVENT).encode()) is True
        glued = text[:1].isupper() or text[:1] in "<{" or phrases.has_notice_label(text)
        begins = "\n" in space or (not space and glued)
        if space == "\n" and _KEY_AND_VALUE.search(end.rstrip()):
            begins = False
        if space.count("\n") < 2 and not (cut_off and begins):
            return False
        if text.startswith("{"):
            return cut_off and _is_error_object(text.encode()) is True
        return phrases.is_last_words(text, cut_off)

    def _may_begin(self, data: bytes, start: int, begin: int) -> bool:
        """Whether a notice may begin there: a paragraph, a bracket not after a space, or words."""
        before = self._context(data, start)
        is_object = data[start : start + 1] == b"{"
        if _IN_WORDS.match(data, start):
            text = before.decode("utf-8", "ignore")
            end = text.rpartition("\n")[2]
            if not end:
                return bool(_BLANK_LINE.search(before) and _CUT_SENTENCE.search(text.rstrip()))
            if data[start : start + 1].isdigit() and _SENTENCE_END.search(end):
                return True
            return bool(_PROSE.search(end)) and end[-1:].lower() == end[-1:]
        if _BLANK_LINE.search(before) and not is_object:
            return True
        own_chunk = self._framed and start >= begin and not data[begin:start].strip()
        if data[start : start + 1] == b"[":
            return own_chunk or before[-1:] not in (b" ", b"\t")
        if is_object:  # as an example it follows a space
            return bool(before) and not before[-1:].isspace()
        return own_chunk and before.rstrip(b" \t\r")[-1:] in (b"\n", b"")


@cache
def _suspicious(tails: tuple[str, ...], notices: bool) -> re.Pattern[bytes]:
    """Finds in a chunk what a failure has to contain.

    It begins with the characters that do, so that most chunks are passed over quickly.
    """
    known = [tail.encode() for tail in tails if tail]
    exact = {tail[:1] for tail in known} | ({b"[", b"{", b"\n"} if notices else set())
    either = {tail[:1].swapcase() for tail in known}
    first = b"".join(map(re.escape, sorted(exact | either)))
    parts = [b"(?<=[%b])" % b"".join(map(re.escape, sorted(exact)))] if exact else []
    parts += [
        b"(?<=(?i:%b))(?i:%b)" % (re.escape(tail[:1]), re.escape(tail[1:_ANY_CASE]))
        for tail in known
    ]
    if not notices:
        return re.compile(b"[%b](?:%b)" % (first, b"|".join(parts)) if parts else b"(?!)")
    parts += [rb"(?<=[a-z0-9,\x80-\xbf][A-Z<])", rb"(?<=[45]\d\d [A-Z])"]
    return re.compile(
        # Second bytes of Cyrillic capitals are common in other scripts: they come last.
        rb"[%bA-Z<\x90-\xaf](?:(?<![\x90-\xaf])(?:%b)|(?<=\xd0.)(?<=[a-z0-9,\x80-\xbf]..))"
        % (first, b"|".join(parts))
    )


@cache
def _beginnings(tails: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The tails in lower case, and then how they begin."""
    lower = [tail.lower() for tail in tails]
    return (*lower, *(tail[:length] for tail in lower for length in range(1, len(tail))))


def _is_beginning(tail: bytes, end: bytes) -> bool:
    """Whether the tail begins like this; a few letters count only in the tail's own case."""
    if len(end) < _ANY_CASE:
        return tail.startswith(end)
    return tail.lower().startswith(end.lower())


def _notice_in(data: bytes) -> bool | None:
    """Whether the bytes are a notice and its details; ``None`` if that cannot be told yet."""
    if len(data) > MAX_DETAILS:
        return False
    text = data[:_MAX_BEGINNING].decode("utf-8", "ignore").lstrip()
    if _QUOTED.startswith(text):
        return None
    if text[0] == "{":
        return _is_error_object(data)
    mark = next((mark for mark in _CLOSING if text.startswith(mark)), "")
    if mark and not text.startswith("**"):
        content, closed, rest = text.removeprefix(mark).partition(_CLOSING[mark])
        if mark == "[" and content.lstrip().startswith(("{", "[", '"')):  # a JSON array
            return _is_error_object(content.encode())
    elif text[0] in _SIGNS:
        content, closed, rest = text, "", ""
    else:
        return phrases.is_glued_failure(text)
    if not closed and (len(content) > phrases.MAX_NOTICE or "\n\n" in content):
        return False
    if mark in ("*", "_", "(", "（") and closed and (rest.strip() or not content.strip()):
        return False
    if closed or text[0] in _SIGNS:
        if phrases.is_notice(content, rest):
            return True
        if "\n" not in text.strip() and phrases.is_last_words(text, cut_off=False):
            return True
        if closed and not (phrases.is_notice_label(content) and "\n" not in rest.strip()):
            return False
    return None


def _is_error_object(data: bytes) -> bool | None:
    """Whether it is a JSON object with an error; ``None`` if it may be the beginning of one."""
    start = b"".join(data[:40].split())[: len(_ERROR)]
    if not _ERROR.startswith(start):
        return False
    try:
        json.loads(data)
    except ValueError:
        return None
    return True
