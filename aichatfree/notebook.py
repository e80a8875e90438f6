"""The cell magic ``%%ask`` for Jupyter."""

from __future__ import annotations

import keyword
from argparse import ArgumentTypeError, Namespace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from ._output.terminal import strip_control_characters
from .chat import Chat
from .client import Client
from .errors import APIError
from .router import client_from_environment
from .stream import Stream

T = TypeVar("T")


def _unquoted(text: str) -> str:
    """Remove quotation marks, which IPython keeps when it splits a line into arguments."""
    if not text.startswith(("'", '"')):
        return text
    if len(text) < 2 or text[-1] != text[0]:
        raise ArgumentTypeError("No closing quotation")
    return text[1:-1]


@magics_class
class AskMagics(Magics):
    """The magics that ``%load_ext aichatfree`` adds."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._clients: WeakKeyDictionary[Chat, Client] = WeakKeyDictionary()
        """The client of each chat that ``%%ask`` has started."""

    @magic_arguments("%ask")
    @argument("--client", metavar="NAME", help="The variable that holds the client.")
    @argument(
        "--chat",
        metavar="NAME",
        nargs="?",
        const="chat",
        help="Keep the conversation in this variable (chat); del it to start another.",
    )
    @argument("-o", "--output", metavar="NAME", help="The variable for the Reply.")
    @argument("--system", metavar="TEXT", type=_unquoted, help="A system prompt.")
    @argument("--temperature", metavar="N", type=float, help="The randomness of the answer.")
    @cell_magic
    def ask(self, line: str, cell: str) -> None:
        """Ask what is in the cell, and show the answer while it arrives.

        The client is the variable `client`; if it does not exist, a client with the settings from
        the environment is created. If the answer is incomplete, the cell fails.

        Examples, each in a separate cell::

            %%ask
            Name three rivers.

            %%ask --system "Answer in one word." -o reply
            What is the capital of France?

            %%ask --chat
            Who wrote War and Peace?

            %%ask --chat
            And when?
        """
        args = self._parsed(line)
        if not cell.strip():
            raise UsageError("The cell is empty: write the question below the %%ask line")
        try:
            stream = self._stream(args, cell.strip("\n"))
        except (TypeError, ValueError, OSError) as error:
            raise UsageError(str(error)) from error
        try:
            reply = stream.show()
        except (APIError, KeyboardInterrupt) as error:
            _show_in_one_line(error)
            raise
        if args.output is not None:
            self._names[args.output] = reply

    @property
    def _names(self) -> dict[str, Any]:
        names: dict[str, Any] = self.shell.user_ns
        return names

    def _parsed(self, line: str) -> Namespace:
        try:
            args: Namespace = parse_argstring(self.ask, line)
        except ValueError as error:
            raise UsageError(f"{error} in the %%ask line: close it") from error
        names = [args.client or "client", args.chat, args.output]
        given = [name for name in names if name is not None]
        for name in given:
            if not name.isidentifier() or keyword.iskeyword(name):
                raise UsageError(f"{name!r} is not a name for a variable: choose another")
        if len(set(given)) < len(given):
            raise UsageError("Use different variables for the client, the chat and the output")
        return args

    def _stream(self, args: Namespace, prompt: str) -> Stream:
        if args.chat is not None:
            return self._chat(args).stream(prompt, temperature=args.temperature)
        client = self._client(args.client)
        return client.stream(prompt, system=args.system, temperature=args.temperature)

    def _client(self, name: str | None) -> Client:
        if name is None and "client" not in self._names:
            self._names["client"] = client_from_environment()
        return self._variable(name or "client", Client)

    def _chat(self, args: Namespace) -> Chat:
        if args.chat not in self._names:
            client = self._client(args.client)
            self._names[args.chat] = client.chat(args.system)
            self._clients[self._names[args.chat]] = client
        chat = self._variable(args.chat, Chat)
        restart = f"`del {args.chat}` to start another, or name another variable"
        if args.client is not None and self._clients.get(chat) is not self._client(args.client):
            raise UsageError(f"{args.chat} already has its client: leave out --client, {restart}")
        system_prompts = [m["content"] for m in chat.messages if m["role"] == "system"]
        if args.system is not None and args.system not in system_prompts:
            raise UsageError(
                f"{args.chat} has another system prompt: leave out --system, {restart}"
            )
        return chat

    def _variable(self, name: str, kind: type[T]) -> T:
        if name not in self._names:
            raise UsageError(f"The variable {name} does not exist: create it, or correct the name")
        value = self._names[name]
        if not isinstance(value, kind):
            raise UsageError(f"{name} is not a {kind.__name__}: name another variable")
        return value


def _show_in_one_line(error: BaseException) -> None:
    """Make IPython show the message alone: a traceback through this package would not help."""
    words = strip_control_characters(str(error)) or "the answer was stopped"
    # IPython calls this method; a partial, unlike a function, leaves the error picklable.
    vars(error)["_render_traceback_"] = partial(list, [f"{type(error).__name__}: {words}"])
