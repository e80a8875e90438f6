"""A prompt of the user becomes checked messages; a server's side reads them back."""

from __future__ import annotations

from collections.abc import Sequence

from .dialects import GEMINI, OPENAI, Dialect, image_of
from .messages import Message, Prompt, check_messages, make_message, replace_surrogates


def messages_from(prompt: Prompt, system: str | None, dialect: Dialect) -> list[Message]:
    """The prompt as a checked list of messages.

    Raises:
        TypeError: the prompt, a message or its content has the wrong type.
        ValueError: it is empty, a role is unknown, or the last message may not come last.
    """
    if isinstance(prompt, str):
        messages: list[Message] = [make_message("user", prompt, "the prompt")]
    elif isinstance(prompt, Sequence) and not isinstance(prompt, (bytes, bytearray)):
        messages = check_messages(prompt)
    else:
        raise TypeError(
            f"a prompt is a str or a list of messages, not {type(prompt).__name__}"
            + (": decode it first" if isinstance(prompt, (bytes, bytearray)) else "")
        )
    if not messages:
        raise ValueError('there are no messages: write at least {"role": "user", "content": ...}')
    if system:
        messages.insert(0, make_message("system", system, "system"))
    last = messages[-1]
    if last["role"] == "system" or (dialect.user_last and last["role"] != "user"):
        raise ValueError(
            f"the last message is from {last['role']!r}: the {dialect.name} dialect needs the "
            'last one to be from "user"'
        )
    if not last["content"].strip() and not last.get("images"):
        raise ValueError("the prompt is empty: write what the model should answer")
    _check_images(messages, dialect)
    return messages


def _check_images(messages: list[Message], dialect: Dialect) -> None:
    urls = [url for message in messages for url in message.get("images", ())]
    if urls and dialect.images is None:
        raise ValueError(f"sites of the {dialect.name} dialect do not take images: leave them out")
    for url in urls:
        if dialect.images != "content" or not url.startswith("https://"):
            image_of(url)


def check_temperature(temperature: object, dialect: Dialect | None = None) -> None:
    """Raise unless it is a usable temperature, in this dialect if one is given."""
    if temperature is None:
        return
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise TypeError(f"temperature must be a number, not {type(temperature).__name__}")
    if not 0 <= temperature <= 100:
        raise ValueError("temperature must be from 0 to 100 (most models take up to 2)")
    if dialect is not None and not dialect.temperature:
        raise ValueError(
            f"sites of the {dialect.name} dialect ignore the temperature: leave it out"
        )


def decode_messages(value: object) -> tuple[Dialect, list[Message]]:
    """Messages read off the wire, in whichever dialect they are; a server's side of ``encode``.

    Raises:
        ValueError: they are in no dialect, or what they say cannot be answered.
    """
    if not isinstance(value, list) or not value:
        raise ValueError("No input text: `messages` must be a list with at least one message.")
    if not all(isinstance(item, dict) for item in value):
        raise ValueError("Every message must be an object with a role and a text.")
    dialect = GEMINI if "parts" in value[0] else OPENAI
    messages = [_decode_one(item, dialect) for item in value]
    last = messages[-1]
    if dialect.user_last and last["role"] != "user":
        raise ValueError("Invalid message history: The last message must be from user role.")
    if not last["content"].strip():
        raise ValueError("No input text: the last message is empty.")
    return dialect, messages


def _decode_one(item: dict[str, object], dialect: Dialect) -> Message:
    roles = {"user": "user", dialect.assistant: "assistant"}
    if dialect.system:
        roles["system"] = "system"
    role = item.get("role")
    if not isinstance(role, str) or role not in roles:
        raise ValueError(f"Unknown role: use one of {', '.join(roles)}.")
    content = _parts_text(item.get("parts")) if dialect.parts else item.get("content")
    if not isinstance(content, str):
        raise ValueError("Every message must have a text, all in the same dialect.")
    return {"role": roles[role], "content": replace_surrogates(content)}  # type: ignore[typeddict-item]


def _parts_text(parts: object) -> str | None:
    if not isinstance(parts, list):
        return None
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    strings = [text for text in texts if isinstance(text, str)]
    return "".join(strings) if texts and len(strings) == len(texts) else None
