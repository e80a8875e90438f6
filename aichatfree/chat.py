"""``Chat``: a conversation whose history is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, get_args

from ._deadlines import TimeLimit
from ._output.notebook import to_html
from ._protocol.messages import Message, check_messages
from .retry import UNSET, RetryOption
from .stream import Reply, Stream

OnPartial: TypeAlias = Literal["drop", "keep"]


class _Ask(Protocol):
    def __call__(
        self,
        prompt: list[Message],
        system: str | None,
        temperature: float | None,
        timeout: TimeLimit | None,
        retry: RetryOption,
        *,
        whole: bool,
        on_end: Callable[[Stream], None],
    ) -> Stream: ...


class _HasChat(Protocol):
    def chat(
        self, system: str | None = None, *, messages: Sequence[Message], on_partial: OnPartial
    ) -> Chat: ...


class Chat:
    """A conversation. A turn, question and answer, enters ``messages`` once, when it is complete.

    >>> chat = client.chat()
    >>> print(chat.send("Name a river."))
    The Nile.
    >>> chat.messages[-1]
    {'role': 'assistant', 'content': 'The Nile.'}

    Attributes:
        messages: the turns so far, as ``{"role": ..., "content": ...}``; yours to edit between
            turns.
    """

    def __init__(
        self,
        ask: _Ask,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        on_partial: OnPartial = "drop",
    ) -> None:
        if on_partial not in get_args(OnPartial):
            raise ValueError(f'on_partial takes "drop" or "keep", not {on_partial!r}')
        self._ask = ask
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
        """Ask the next question, and wait for the whole answer.

        Args:
            text: the question.
            temperature: as in :meth:`Client.generate`, and so are the others.
            timeout: for this turn.
            retry: for this turn.

        Raises:
            TypeError, ValueError: the question cannot be sent; nothing was.
            APIError: no whole answer came; ``on_partial`` says what the history keeps of it.
        """
        return self._turn(text, temperature, timeout, retry, whole=True).reply()

    def stream(
        self,
        text: str,
        *,
        temperature: float | None = None,
        timeout: TimeLimit | None = None,
        retry: RetryOption = UNSET,
    ) -> Stream:
        """Ask the next question, and get the answer as it arrives. Arguments as in ``send``."""
        return self._turn(text, temperature, timeout, retry, whole=False)

    def _turn(
        self,
        text: str,
        temperature: float | None,
        timeout: TimeLimit | None,
        retry: RetryOption,
        *,
        whole: bool,
    ) -> Stream:
        if not isinstance(text, str):
            raise TypeError(f"a question is a str, not {type(text).__name__}")
        question: Message = {"role": "user", "content": text}

        def keep(stream: Stream) -> None:
            answer = stream.text
            if stream.complete or (answer and self._on_partial == "keep"):
                self.messages += [question, {"role": "assistant", "content": answer}]

        asked = [*self.messages, question]
        return self._ask(asked, None, temperature, timeout, retry, whole=whole, on_end=keep)

    def to_dict(self) -> dict[str, Any]:
        """The conversation as plain data, for JSON; it holds no setting of the client."""
        return {"messages": [dict(m) for m in self.messages], "on_partial": self._on_partial}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], client: _HasChat) -> Chat:
        """Go on with a conversation that :meth:`to_dict` gave.

        >>> chat = client.chat()
        >>> print(chat.send("Name a river."))
        The Nile.
        >>> same = aichatfree.Chat.from_dict(chat.to_dict(), client)
        >>> print(same.send("Where does it end?"))
        In the Mediterranean Sea.

        Raises:
            TypeError, ValueError: the data are not such a conversation.
        """
        messages = data.get("messages") if isinstance(data, Mapping) else None
        if not isinstance(messages, list):
            raise ValueError('a conversation is {"messages": [...]}, as to_dict() gives it')
        chat = client.chat(messages=messages, on_partial=data.get("on_partial", "drop"))
        chat.messages = check_messages(messages)  # no system prompt that was not there before
        return chat

    def _repr_html_(self) -> str | None:
        return to_html(*(f"**{m['role']}**\n\n{m['content']}" for m in self.messages))

    def __repr__(self) -> str:
        return f"<Chat, {len(self.messages)} messages>"
