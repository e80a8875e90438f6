"""Jupyter: the cell magic ``%%ask``."""

from __future__ import annotations

import keyword
from argparse import ArgumentTypeError, Namespace
from functools import partial
from typing import Any, TypeVar

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from ._output.terminal import without_control
from .chat import Chat
from .client import Client
from .errors import APIError
from .stream import Stream

T = TypeVar("T")

_ANEW = "`del %s` to begin anew, or name another variable"


def _unquoted(text: str) -> str:
    # IPython splits a line at the spaces outside of quotation marks, and leaves those on.
    if not text.startswith(("'", '"')):
        return text
    if len(text) < 2 or text[-1] != text[0]:
        raise ArgumentTypeError("a quotation without its end")
    return text[1:-1]


@magics_class
class AskMagics(Magics):
    """The magics that ``%load_ext aichatfree`` adds."""

    @magic_arguments("%ask")
    @argument("--client", metavar="NAME", help="The variable that holds the client.")
    @argument(
        "--chat",
        metavar="NAME",
        nargs="?",
        const="chat",
        help="Keep the conversation in this variable (chat); del it to begin anew.",
    )
    @argument("-o", "--output", metavar="NAME", help="The variable that gets the Reply.")
    @argument("--system", metavar="TEXT", type=_unquoted, help="A system prompt.")
    @argument("--temperature", metavar="N", type=float, help="The randomness of the answer.")
    @cell_magic
    def ask(self, line: str, cell: str) -> None:
        """Ask what the cell says; the answer appears as Markdown while it arrives.

        The client is the variable `client`; one with the settings of the environment is made if
        there is none. An answer that does not come to its end fails the cell.

        Examples, each a cell of its own::

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
            raise UsageError("the cell is empty: write the question below the %%ask line")
        try:
            stream = self._stream(args, cell.strip("\n"))
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error
        try:
            reply = stream.show()
        except (APIError, KeyboardInterrupt) as error:
            _tell_in_one_line(error)
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
        except ValueError as error:  # a quotation without its end
            raise UsageError(f"{error} in the %%ask line") from error
        names = [args.client or "client", args.chat, args.output]
        given = [name for name in names if name is not None]
        for name in given:
            if not name.isidentifier() or keyword.iskeyword(name):
                raise UsageError(f"{name!r} is no name of a variable")
        if len(set(given)) < len(given):
            raise UsageError("client, chat and output must be different variables")
        return args

    def _stream(self, args: Namespace, prompt: str) -> Stream:
        if args.chat is not None:
            return self._chat(args).stream(prompt, temperature=args.temperature)
        client = self._client(args.client)
        return client.stream(prompt, system=args.system, temperature=args.temperature)

    def _client(self, name: str | None) -> Client:
        if name is None and "client" not in self._names:
            self._names["client"] = Client()
        return self._variable(name or "client", Client)

    def _chat(self, args: Namespace) -> Chat:
        if args.chat not in self._names:
            self._names[args.chat] = self._client(args.client).chat(args.system)
        chat = self._variable(args.chat, Chat)
        if (
            args.client is not None
            and chat._open_stream != self._client(args.client)._requester.stream
        ):
            raise UsageError(f"{args.chat} is a chat of another client; {_ANEW % args.chat}")
        begun_with = [m["content"] for m in chat.messages if m["role"] == "system"]
        if args.system is not None and args.system not in begun_with:
            raise UsageError(f"{args.chat} has another system prompt; {_ANEW % args.chat}")
        return chat

    def _variable(self, name: str, kind: type[T]) -> T:
        if name not in self._names:
            raise UsageError(f"there is no variable {name}")
        value = self._names[name]
        if not isinstance(value, kind):
            raise UsageError(f"{name} is no {kind.__name__}: choose another name")
        return value


def _tell_in_one_line(error: BaseException) -> None:
    """What it says is all there is to know: the lines of this package are not the reader's."""
    words = without_control(str(error)) or "the answer was stopped"
    # IPython asks for this method; a partial, so that the error can still be pickled.
    vars(error)["_render_traceback_"] = partial(list, [f"{type(error).__name__}: {words}"])
