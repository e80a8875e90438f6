"""How a kind of server spells requests: ``Dialect``, and the kinds that are known."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

from .messages import Message

Images: TypeAlias = Literal["content", "parts", "attachments"]
TimeUnit: TypeAlias = Literal["ms", "s"]


@dataclass(frozen=True)
class Dialect:
    """How a kind of server spells requests, as data.

    >>> aichatfree.GEMINI.encode([{"role": "assistant", "content": "Hello"}])
    [{'role': 'model', 'parts': [{'text': 'Hello'}]}]
    >>> aichatfree.OPENAI.encode([{"role": "assistant", "content": "Hello"}])
    [{'role': 'assistant', 'content': 'Hello'}]
    >>> seconds = aichatfree.Dialect("seconds", time_unit="s", extra={"stream": True})
    >>> aichatfree.Client("https://chat.example", dialect=seconds)
    Client('https://chat.example', dialect='seconds')

    Attributes:
        name: what users call it.
        assistant: the wire's name for the role ``assistant``.
        parts: whether the text is at ``parts[].text``; otherwise it is at ``content``.
        system: whether the server knows the role ``system``; otherwise system messages are put
            in front of the next user message.
        temperature: whether the server passes a temperature on.
        user_last: whether the server refuses a conversation that does not end with the user.
        images: where images go: ``"content"`` (OpenAI's content parts), ``"parts"`` or
            ``"attachments"``; ``None`` if the server takes none.
        path: what is added to the site's base URL.
        models_path: where the server lists its models, if it does.
        time_key: the key of the time.
        model_key: the key of the model.
        time_unit: the unit of the time, ``"ms"`` or ``"s"``.
        signed: what is signed, with ``{time}``, ``{text}`` (of the last message) and ``{secret}``.
        secret: what requests are signed with where the user gives no secret.
        extra: more keys of the request's body, with their values.
        sentences: with what a complete body with status 200 begins if it is a refusal, and what it
            means, as in ``Site.sentences``.
        failure_tails: what the server appends to an answer when it fails.
    """

    name: str
    assistant: str = "assistant"
    parts: bool = False
    system: bool = True
    temperature: bool = True
    user_last: bool = False
    images: Images | None = None
    path: str = "/api/generate"
    models_path: str = "/api/models"
    time_key: str = "time"
    model_key: str = "model"
    time_unit: TimeUnit = "ms"
    signed: str = "{time}:{text}:{secret}"
    secret: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    sentences: Mapping[str, str] = field(default_factory=dict, hash=False)
    failure_tails: Sequence[str] = ("Internal server error",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "failure_tails", tuple(self.failure_tails))
        if self.time_unit not in get_args(TimeUnit):
            raise ValueError(f'Dialect.time_unit takes "ms" or "s", not {self.time_unit!r}')
        if self.images is not None and self.images not in get_args(Images):
            raise ValueError(f"Dialect.images takes one of {get_args(Images)}, not {self.images!r}")
        if not self.path.startswith("/"):
            raise ValueError(f"Dialect.path must begin with a slash, unlike {self.path!r}")

    def encode(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages as this dialect sends them."""
        return [self._encode_one(message) for message in self._fold_system(messages)]

    def signed_text(self, encoded: Mapping[str, Any]) -> str:
        """The text of an encoded message as the server reads it to check the signature."""
        if self.parts:
            return "".join(part.get("text", "") for part in encoded["parts"])
        content = encoded["content"]
        if isinstance(content, list):
            return ",".join("[object Object]" for _ in content)  # JavaScript's text of a list
        return str(content)

    def _encode_one(self, message: Message) -> dict[str, Any]:
        role = self.assistant if message["role"] == "assistant" else message["role"]
        text, images = message["content"], message.get("images", ())
        if self.parts:
            parts = [{"text": text}, *({"image": _image(url)} for url in images)]
            return {"role": role, "parts": parts}
        if not images:
            return {"role": role, "content": text}
        if self.images == "attachments":
            return {"role": role, "content": text, "attachments": list(map(_attachment, images))}
        urls = ({"type": "image_url", "image_url": {"url": url}} for url in images)
        return {"role": role, "content": [{"type": "text", "text": text}, *urls]}

    def _fold_system(self, messages: Sequence[Message]) -> list[Message]:
        if self.system:
            return list(messages)
        folded: list[Message] = []
        pending: list[str] = []
        for message in messages:
            if message["role"] == "system":
                pending.append(message["content"])
            elif message["role"] == "user" and pending:
                content = "\n\n".join([*pending, message["content"]])
                folded.append({**message, "content": content})
                pending = []
            else:
                folded.append(message)
        if pending:
            folded.append({"role": "user", "content": "\n\n".join(pending)})
        return folded


def image_of(url: str) -> tuple[str, bytes]:
    """The media type and the bytes of a ``data:`` URL.

    Raises:
        ValueError: it is not one with base64 in it.
    """
    head, _, data = url.partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64")):
        raise ValueError("an image must be a data: URL, data:image/png;base64,...")
    try:
        return head[5:-7], base64.b64decode(data, validate=True)
    except binascii.Error:
        raise ValueError("an image's data: URL has no valid base64 in it") from None


def _image(url: str) -> dict[str, Any]:
    kind, data = image_of(url)
    return {"url": url, "type": kind, "name": "image", "size": len(data)}


def _attachment(url: str) -> dict[str, Any]:
    kind, data = image_of(url)
    content = url.partition(",")[2]
    return {
        "name": "image",
        "type": kind,
        "size": len(data),
        "content": content,
        "encoding": "base64",
    }


GEMINI: Final = Dialect(
    "gemini", assistant="model", parts=True, system=False, temperature=False, user_last=True
)


OPENAI: Final = Dialect("openai", images="content")

_CHAT_MINI: Final = Dialect("chat-mini", images="attachments")
_GEMINI_MODELS: Final = dataclasses.replace(
    GEMINI,
    name="gemini-models",
    images="parts",
    model_key="modelId",
)
_FREEGPT: Final = Dialect("freegpt", temperature=False, time_unit="s", secret="undefined")

DIALECTS: Final[Mapping[str, Dialect]] = {
    dialect.name: dialect
    for dialect in (
        GEMINI,
        OPENAI,
        _CHAT_MINI,
        _GEMINI_MODELS,
        _FREEGPT,
        dataclasses.replace(_FREEGPT, name="aibn"),
    )
}
"""By name: GeminiProChat, chatgpt-demo, chat-mini (a chatgpt-demo with files and web search), the
GeminiProChat with a list of models, and two sites that are gone, whose kind others may have."""
