"""The text in server-sent events: ``EventDecoder``, for sites that stream them. Pure, no I/O."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from .server_sent_events import Event, EventReader

MAX_EVENT: Final = 1 << 20
"""Bytes of the longest event."""

END_MARK: Final = "[DONE]"
"""The last event of OpenAI's; some sites leave it in the text."""

_MAX_FIRST_EVENT: Final = 16 * 1024
_FIELD: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:")
_BEFORE_DATA: Final = re.compile(rb"(?:(?:(?:: |event:|id:|retry:)[^\n]{0,200}|:)?\r?\n)*")
"""The lines before the first data of a stream: comments, names, numbers and empty lines."""

_MAY_BE_DATA: Final = re.compile(
    rb"|:(?: [^\n]{0,200})?|(?:event|id|retry):[^\n]{0,200}"
    rb"|d(?:a(?:t(?:a(?::(?: )?)?)?)?)?|e(?:v(?:e(?:nt?)?)?)?|id?|r(?:e(?:t(?:ry?)?)?)?"
)
"""The beginning of such a line, or of one with data."""

_STOPPED_EARLY: Final = ("length", "max_tokens", "content_filter", "safety", "recitation", "error")


class EventDecoder:
    """Turns the chunks of an event stream into the chunks of the answer.

    Events are those of OpenAI, Gemini or Anthropic, or plain text.

    Attributes:
        unknown: whether an event was JSON that is neither text nor known to have none.
        malformed: whether an event could not be read, so that text may be missing.
        reasoning: the reasoning so far.
        error: the body of the error that an event described, or ``""``.
        stopped: why the model stopped early, or ``""``.
    """

    def __init__(self) -> None:
        self._reader = EventReader(MAX_EVENT)
        self._structured = False  # an event was JSON of a model, so its end must be said
        self._is_text = False  # an event was plain text
        self._finished = False
        self.unknown = False
        self.malformed = False
        self.reasoning: list[str] = []
        self.error = ""
        self.stopped = ""

    @property
    def complete(self) -> bool:
        """Whether the answer ended as it should, as far as events tell."""
        return self._finished or not self._structured

    def feed(self, chunk: bytes) -> list[str]:
        """The text of the events that are complete after one more chunk."""
        texts = self._texts(self._reader.feed(chunk))
        self.malformed = self.malformed or self._reader.too_long
        return texts

    def is_of_model(self, lines: bytes) -> bool:
        """Whether the lines up to the first data are an event or an error of a model's API."""
        self.feed(lines + b"\n\n")
        return self._structured or bool(self.error)

    def finish(self) -> list[str]:
        """The text of the last event, if no empty line came after it."""
        return self._texts(self._reader.finish())

    def _texts(self, events: list[Event]) -> list[str]:
        return [text for event in events if (text := self._text_of_event(*event))]

    def _text_of_event(self, data: str, event: str) -> str:
        if data.strip() == END_MARK or event in ("done", "end", "message_stop"):
            self._finished = True
            return ""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if event == "error" or (isinstance(value, dict) and value.get("error")):
            self.error = self.error or data
            return ""
        if isinstance(value, dict) and (value or not self._is_text):
            return self._text_of(value)
        if isinstance(value, str) and not self._is_text:
            return value
        if self._structured or (not self._is_text and data.lstrip().startswith(("{", "[{"))):
            self.malformed = self.malformed or not self._finished
            return ""
        self._is_text = True
        return data

    def _text_of(self, value: dict[str, Any]) -> str:
        for choices, reason in (("choices", "finish_reason"), ("candidates", "finishReason")):
            if isinstance(value.get(choices), list):
                self._structured = True
                choice = value[choices][0] if value[choices] else {}
                return self._of_choice(choice if isinstance(choice, dict) else {}, reason)
        if "type" in value and isinstance(value.get("delta"), dict):
            self._structured = True
            self._note_end(value["delta"].get("stop_reason"))
            return _string(value["delta"].get("text"))
        for key in ("content", "text", "delta", "response", "answer", "token", "message"):
            if isinstance(value.get(key), str):
                return str(value[key])
        # Such as {"usage": ...} or a ping: without text, but no reason to fail.
        self.unknown = self.unknown or not ({"usage", "type", "id", "role"} & value.keys())
        return ""

    def _of_choice(self, choice: dict[str, Any], reason: str) -> str:
        self._note_end(choice.get(reason))
        for key in ("delta", "message", "content"):
            part = choice.get(key)
            if isinstance(part, dict):
                thought = part.get("reasoning_content") or part.get("reasoning")
                if isinstance(thought, str):
                    self.reasoning.append(thought)
                return _string(part.get("content", part.get("parts")))
        return _string(choice.get("text"))

    def _note_end(self, reason: object) -> None:
        if isinstance(reason, str) and reason:
            self._finished = True
            if reason.lower() in _STOPPED_EARLY:
                self.stopped = reason


def may_be_events(data: bytes, *, labelled: bool) -> bool | None:
    """Whether a body is an event stream by its first lines; ``None`` if that cannot be told yet.

    Args:
        data: the beginning of the body.
        labelled: whether its Content-Type says so; if not, its first data is an event of a model.
    """
    data = data.lstrip(b"\r\n")
    if labelled:
        if _FIELD.match(data):
            return True
        fields = (b"data:", b"event:", b"retry:", b"id:")
        return None if any(field.startswith(data) for field in fields) else False
    before = _BEFORE_DATA.match(data)
    begin = before.end() if before else 0
    first, is_complete, _ = data[begin:].partition(b"\n")
    if len(data) - len(first) > _MAX_FIRST_EVENT:
        return False
    if not is_complete and data and _MAY_BE_DATA.fullmatch(first):
        return None
    if not first.startswith((b"data: {", b"data:{")) or len(first) > _MAX_FIRST_EVENT:
        return False
    return EventDecoder().is_of_model(data[:begin] + first) if is_complete else None


def _string(value: object) -> str:
    if isinstance(value, list):
        return "".join(_string(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""
