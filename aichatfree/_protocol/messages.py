"""Messages in the form that users write, and their checks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NotRequired, TypeAlias, TypedDict


class Message(TypedDict):
    """One turn of a conversation, in the form that users write.

    >>> history: list[aichatfree.Message] = [{"role": "user", "content": "Name a river."}]
    >>> print(client.generate(history))
    The Nile.

    ``images`` are ``data:`` URLs, for dialects that take images. Instead, ``content`` may be a list
    of OpenAI's content parts, ``{"type": "text", ...}`` and ``{"type": "image_url", ...}``.
    """

    role: Literal["system", "user", "assistant"]
    content: str
    images: NotRequired[list[str]]


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
    where = f"the content of message {number}"
    content, images = item["content"], item.get("images") or []
    if isinstance(content, list):
        content, images = _read_parts(content, where)
    return make_message(item["role"], content, where, images)


def _read_parts(parts: list[object], where: str) -> tuple[str, list[object]]:
    """The text and the images of OpenAI's content parts."""
    texts: list[str] = []
    images: list[object] = []
    if not all(isinstance(part, Mapping) for part in parts):
        raise TypeError(f"{where} must be a str, not list")
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part, Mapping) and isinstance(part.get("text"), str):
            texts.append(str(part["text"]))
        elif kind == "image_url" and isinstance(part, Mapping):
            image = part.get("image_url")
            images.append(image.get("url") if isinstance(image, Mapping) else image)
        else:
            raise ValueError(f"{where} has a part that is neither a text nor an image_url")
    return "".join(texts), images


def make_message(role: Any, content: object, where: str, images: object = ()) -> Message:
    """A checked message.

    Args:
        role: its role.
        content: its text.
        where: what the content is called in errors.
        images: ``data:`` URLs.

    Raises:
        TypeError, ValueError: it cannot be sent.
    """
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}: use one of {', '.join(map(repr, ROLES))}")
    if not isinstance(content, str):
        raise TypeError(f"{where} must be a str, not {type(content).__name__}")
    message: Message = {"role": role, "content": replace_surrogates(content)}
    if images:
        if not isinstance(images, (list, tuple)) or not all(isinstance(u, str) for u in images):
            raise TypeError(f"{where} has images that are not a list of str")
        if role != "user":
            raise ValueError(f"{where} has images, which only the role 'user' may have")
        message["images"] = [replace_surrogates(url) for url in images]
    return message
