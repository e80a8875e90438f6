"""How a body begins: reasoning before the answer, a web page, a refusal. ``Opening`` tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from . import phrases
from .error_bodies import ERRORS, MESSAGES, THROWN, TRACEBACK

REASONING_TAGS: Final = ("think", "thinking", "thought", "reasoning")
TOOL_TAGS: Final = ("tool", "tool_data", "tool_call", "tool_result")

_TAG: Final = re.compile(rf"<({'|'.join((*REASONING_TAGS, *TOOL_TAGS))})>")
_TAGS: Final = tuple(f"<{tag}>" for tag in (*REASONING_TAGS, *TOOL_TAGS))
_PROLOGUE: Final = r"\ufeff?\s*(?:<\?xml[^>]*\?>\s*|<!--.*?-->\s*)*"
_HTML: Final = re.compile(
    rf"{_PROLOGUE}(?:<!doctype html[^>]*>\s*<[!/a-z]|<(?:html|head|body)\b[^>]*>\s*<[!/a-z]"
    r"|<(?:title|center)\b[^>]*>[^<]*<[/a-z]|<h1>[^<]{0,40}[45]\d\d\b|<meta http-equiv)",
    re.IGNORECASE | re.DOTALL,
)
_MAY_BE_HTML: Final = re.compile(
    rf"{_PROLOGUE}(?:<[!?/a-z-]?[^<>]*|<(?:!doctype html|html|head|body)\b[^>]*>\s*<?"
    r"|<(?:title|center|h1)\b[^>]*>[^<]*<?)",
    re.IGNORECASE | re.DOTALL,
)
"""A text that matches completely may yet become a web page."""

_NO_ERROR: Final = re.compile(r'\s*\{\s*"error"\s*:\s*(?:null|false|"")\s*[,}]')
_MAX_HTML: Final = 512
_MAX_SPACE: Final = 64
_MAX_ERROR: Final = 16 * 1024
_ERRORS: Final = dict.fromkeys(
    (
        *(f'{{"{key}"' for key in MESSAGES),
        *('{"type":"error"', '{"code"', '{"status', '{"success":false', '{"ok":false'),
    ),
    512,
) | {'{"error"': _MAX_ERROR, "".join(TRACEBACK.split()): 4096}
"""How errors of programs begin, without spaces, and the length up to which they are held back."""

_MAX_THROWN: Final = 2048
_NAMES_ERROR: Final = re.compile(
    rf'"(?:{"|".join(ERRORS)})"\s*:\s*\{{|:\s*"(?:error"|ERR(?:OR)?_)', re.IGNORECASE
)
_MAX_KEYS: Final = 128
"""Characters of a JSON object that are held back to see whether an error is among them."""


class Opening:
    """Holds back the beginning of a body until it is clear what it is.

    Args:
        sentences: the site's own refusals and their meanings; ``None`` to look for no refusal.
        reasoning: whether to separate reasoning from the answer.
        web_pages: whether to look for web pages.
        complete: whether only the complete text counts, so that holding it back costs no time.

    Attributes:
        body: the answer so far, as long as it is short enough for a refusal; else ``None``.
        reasoning: the reasoning so far.
        blocks: the tags that came before the answer.
        settled: whether everything that comes now is text, if :meth:`remember` is told of it.
        web_page: whether the body is one, as far as is known.
    """

    def __init__(
        self,
        *,
        sentences: Mapping[str, str] | None,
        reasoning: bool,
        web_pages: bool,
        complete: bool = False,
    ) -> None:
        self._complete = complete
        self._sentences = sentences
        self._separates = reasoning
        self._web_pages = web_pages
        self._pending = ""
        self._tag = ""
        self.settled = False
        self.body: str | None = ""
        self.reasoning: list[str] = []
        self.blocks: set[str] = set()
        self.web_page = False

    @property
    def in_block(self) -> bool:
        """Whether a block before the answer has not been closed."""
        return bool(self._tag)

    @property
    def answered(self) -> int:
        """Characters that are held back, as the body is complete, but are known to be an answer."""
        if not (self._complete and self._pending) or self.settled:
            return 0
        self._read_blocks()
        return 0 if self._is_open() else len(self._pending)

    def feed(self, text: str) -> str:
        """The part of the answer that is certain after more text."""
        if not self.settled:
            self._pending += text
            if self._complete and len(self._pending) <= phrases.MAX_REFUSAL:
                return ""
            self._read_blocks()
            if self._is_open():
                return ""
            text, self._pending = self._pending, ""
            self.settled = True
        self.remember(text)
        return text

    def finish(self) -> str:
        """What is still held back, at the end of the body."""
        if not self.settled:
            self._read_blocks()
        text, self._pending = self._pending, ""
        if self._tag:
            self.reasoning.append(text)
            return ""
        if self._complete and self._web_pages and not self.settled:
            self.web_page = bool(_HTML.match(text.lstrip()))
        self.remember(text)
        return text

    def remember(self, text: str) -> None:
        """Keep text while the body is short enough for a refusal."""
        if self.body is not None:
            self.body += text
            if len(self.body) > phrases.MAX_REFUSAL and not _may_be_error(self.body):
                self.body = None

    def _read_blocks(self) -> None:
        while self._separates:
            if not self._tag:
                if self.blocks:
                    self._pending = self._pending.lstrip()
                found = _TAG.match(self._pending.lstrip())
                if not found:
                    return
                self._tag = found[1]
                self.blocks.add(self._tag)
                self._pending = self._pending.lstrip()[found.end() :]
            inside, closed, rest = self._pending.partition(f"</{self._tag}>")
            if not closed:
                held = len(self._tag) + 3
                inside, rest = self._pending[:-held], self._pending[-held:]
            if self._tag in REASONING_TAGS:
                self.reasoning.append(inside)
            if not closed:
                self._pending = rest
                return
            self._tag = ""
            self._pending = rest.lstrip()

    def _is_open(self) -> bool:
        """Whether what is pending can still be something else than an answer."""
        if self._tag:
            return True
        text = self._pending.lstrip()
        if not text:
            return bool(self.blocks) or len(self._pending) <= _MAX_SPACE
        if self._separates and any(tag.startswith(text) for tag in _TAGS):
            return True
        if self._web_pages:
            self.web_page = bool(_HTML.match(text[:_MAX_HTML]))
            if self.web_page or (len(text) <= _MAX_HTML and _MAY_BE_HTML.fullmatch(text)):
                return True
        if self._sentences is None:
            return False
        return _may_be_error(text) or phrases.may_be_refusal(self._pending, self._sentences)


def _may_be_error(text: str) -> bool:
    """Whether it begins like a JSON object with an error in it, or like what a program throws."""
    start = "".join(text[:40].split())
    if len(text) <= _MAX_THROWN and THROWN.match(text):
        return text.count("\n") <= 1
    if start[:1] not in ("{", "T") or _NO_ERROR.match(text):
        return False
    if len(text) <= _MAX_KEYS and start.startswith('{"'):
        return True
    if len(text) <= _MAX_ERROR and _NAMES_ERROR.search(text, 0, _MAX_KEYS):
        return True
    return any(
        len(text) <= limit and (error.startswith(start) or start.startswith(error))
        for error, limit in _ERRORS.items()
    )
