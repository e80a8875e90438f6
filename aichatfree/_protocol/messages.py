"""Messages in the form that users write, and their checks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypedDict


class Message(TypedDict):
    """One turn of a conversation, in the form that users write.

    >>> history: list[aichatfree.Message] = [{"role": "user", "content": "Name a river."}]
    >>> print(client.generate(history))
    The Nile.
    """

    role: Literal["system", "user", "assistant"]
    content: str


Prompt: TypeAlias = str | Sequence[Mapping[str, object]]


ROLES: Final = ("system", "user", "assistant")


def replace_surrogates(text: str) -> str:
    """The text as JavaScript would encode it: surrogate pairs joined, lone ones made U+FFFD.

    The servers hash the text that they decoded, so the same has to be signed and sent.
    """
    if text.isascii() or not re.search("[\ud800-\udfff]", text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def check_messages(items: Sequence[object]) -> list[Message]:
    """The items, each checked to be a message.

    Raises:
        TypeError, ValueError: one is not; it is named by its number, from 1.
    """
    return [_message_from(item, number) for number, item in enumerate(items, 1)]


def _message_from(item: object, number: int) -> Message:
    if not isinstance(item, Mapping):
        raise TypeError(
            f'message {number} must be {{"role": ..., "content": ...}}, not {type(item).__name__}'
        )
    missing = [key for key in ("role", "content") if key not in item]
    if missing:
        raise ValueError(f"message {number} has no {missing[0]!r}")
    return make_message(item["role"], item["content"], f"the content of message {number}")


def make_message(role: Any, content: object, where: str) -> Message:
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}: use one of {', '.join(map(repr, ROLES))}")
    if not isinstance(content, str):
        raise TypeError(f"{where} must be a str, not {type(content).__name__}")
    return {"role": role, "content": replace_surrogates(content)}
