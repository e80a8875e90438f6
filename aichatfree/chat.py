"""``Chat``: a conversation whose history is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, get_args

from ._output.notebook_display import to_html
from ._protocol.messages import Message, check_messages
from .retry import UNSET, RetryOption
from .stream import Reply, Stream
from .timeout import TimeLimit

OnPartial: TypeAlias = Literal["drop", "keep"]


class _HasChat(Protocol):
    def chat(
        self, system: str | None = None, *, messages: Sequence[Message], on_partial: OnPartial
    ) -> Chat: ...


class Chat:
    """A conversation. Questions and answers are added to ``messages`` once an answer is complete.

    >>> chat = client.chat()
    >>> print(chat.send("Name a river."))
    The Nile.
    >>> chat.messages[-1]
    {'role': 'assistant', 'content': 'The Nile.'}

    Attributes:
        messages: the conversation so far, as ``{"role": ..., "content": ...}``; it may be edited
            between two questions.
    """

    def __init__(
        self,
        open_stream: Callable[..., Stream],
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        on_partial: OnPartial = "drop",
    ) -> None:
        if on_partial not in get_args(OnPartial):
            raise ValueError(f'on_partial takes "drop" or "keep", not {on_partial!r}')
        self._open_stream = open_stream
        self._on_partial = on_partial
        self.messages: list[Message] = check_messages(messages)
        if system is not None and not any(m["role"] == "system" for m in self.messages):
            self.messages[:0] = check_messages([{"role": "system", "content": system}])

    def send(
        self,
        text: str,
        *,
        temperature: float | None = None,
        timeout: TimeLimit | None = None,
        retry: RetryOption = UNSET,
    ) -> Reply:
        """Send the next question and wait for the complete answer.

        Args:
            text: the question.
            temperature: as in :meth:`Client.generate`.
            timeout: for this question, as in :meth:`Client.generate`.
            retry: for this question, as in :meth:`Client.generate`.

        Raises:
            TypeError, ValueError: the question cannot be sent; nothing was sent.
            APIError: there is no complete answer; ``on_partial`` says what is kept of it.
        """
        return self._turn(text, temperature, timeout, retry, buffered=True).reply()

    def stream(
        self,
        text: str,
        *,
        temperature: float | None = None,
        timeout: TimeLimit | None = None,
        retry: RetryOption = UNSET,
    ) -> Stream:
        """Send the next question and get the answer as it arrives. Arguments as in :meth:`send`."""
        return self._turn(text, temperature, timeout, retry, buffered=False)

    def _turn(
        self,
        text: str,
        temperature: float | None,
        timeout: TimeLimit | None,
        retry: RetryOption,
        *,
        buffered: bool,
    ) -> Stream:
        if not isinstance(text, str):
            raise TypeError(f"a question must be a str, not {type(text).__name__}")
        question: Message = {"role": "user", "content": text}

        def keep(stream: Stream) -> None:
            answer = stream.text
            if stream.complete or (answer and self._on_partial == "keep"):
                self.messages += [question, {"role": "assistant", "content": answer}]

        return self._open_stream(
            [*self.messages, question],
            temperature=temperature,
            timeout=timeout,
            retry=retry,
            buffered=buffered,
            on_end=keep,
        )

    def to_dict(self) -> dict[str, Any]:
        """The conversation as plain data, for JSON; it holds no setting of the client."""
        return {"messages": [dict(m) for m in self.messages], "on_partial": self._on_partial}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], client: _HasChat) -> Chat:
        """Continue a conversation from the data of :meth:`to_dict`.

        >>> chat = client.chat()
        >>> print(chat.send("Name a river."))
        The Nile.
        >>> same = aichatfree.Chat.from_dict(chat.to_dict(), client)
        >>> print(same.send("Where does it end?"))
        In the Mediterranean Sea.

        Raises:
            TypeError, ValueError: the data does not describe a conversation.
        """
        messages = data.get("messages") if isinstance(data, Mapping) else None
        if not isinstance(messages, list):
            raise ValueError('a conversation is {"messages": [...]}, as to_dict() returns it')
        chat = client.chat(messages=messages, on_partial=data.get("on_partial", "drop"))
        chat.messages = check_messages(messages)  # without the client's system prompt
        return chat

    def _repr_html_(self) -> str | None:
        return to_html(*(f"**{m['role']}**\n\n{m['content']}" for m in self.messages))

    def __repr__(self) -> str:
        return f"<Chat, {len(self.messages)} messages>"
