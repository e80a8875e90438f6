"""How a family of servers spells messages: ``Dialect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .messages import Message


@dataclass(frozen=True)
class Dialect:
    """How one family of servers spells messages.

    >>> aichatfree.GEMINI.encode([{"role": "assistant", "content": "Hello"}])
    [{'role': 'model', 'parts': [{'text': 'Hello'}]}]
    >>> aichatfree.OPENAI.encode([{"role": "assistant", "content": "Hello"}])
    [{'role': 'assistant', 'content': 'Hello'}]

    Attributes:
        name: what users call it.
        assistant: the wire's name for the role ``assistant``.
        parts: whether the text is at ``parts[].text``; otherwise it is at ``content``.
        system: whether the server knows the role ``system``; otherwise system messages are put
            in front of the next user message.
        temperature: whether the server passes a temperature on.
        user_last: whether the server refuses a conversation that does not end with the user.
    """

    name: str
    assistant: str
    parts: bool
    system: bool
    temperature: bool
    user_last: bool

    def encode(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages as this dialect sends them."""
        return [self._encode_one(message) for message in self._fold_system(messages)]

    def _encode_one(self, message: Message) -> dict[str, Any]:
        role = self.assistant if message["role"] == "assistant" else message["role"]
        if self.parts:
            return {"role": role, "parts": [{"text": message["content"]}]}
        return {"role": role, "content": message["content"]}

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
                folded.append({"role": "user", "content": content})
                pending = []
            else:
                folded.append(message)
        if pending:
            folded.append({"role": "user", "content": "\n\n".join(pending)})
        return folded


GEMINI: Final = Dialect(
    "gemini", assistant="model", parts=True, system=False, temperature=False, user_last=True
)


OPENAI: Final = Dialect(
    "openai", assistant="assistant", parts=False, system=True, temperature=True, user_last=False
)


DIALECTS: Final[Mapping[str, Dialect]] = {d.name: d for d in (GEMINI, OPENAI)}
