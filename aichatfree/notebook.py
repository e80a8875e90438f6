"""The magics ``%%ask`` and ``%ask`` for Jupyter."""

from __future__ import annotations

import keyword
import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from functools import partial
from string import Formatter
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.utils.process import arg_split

from ._output.terminal import strip_control_characters
from .chat import Chat
from .client import Client
from .errors import APIError
from .router import client_from_environment
from .stream import Stream

T = TypeVar("T")

_LINE_WITH_QUESTION_MARK: Final = re.compile(r"(\s*)%ask\s+(.*\S\s*\?)\s*")


def keep_question_marks(lines: list[str]) -> list[str]:
    """Make Python of lines such as ``%ask Who?``, which IPython takes for a call of its help."""
    if lines and lines[0].startswith("%%"):
        return lines
    found = [_LINE_WITH_QUESTION_MARK.fullmatch(line) for line in lines]
    return [
        f"{match[1]}get_ipython().run_line_magic('ask', {match[2]!r})\n" if match else line
        for match, line in zip(found, lines, strict=True)
    ]


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
    @no_var_expand
    @cell_magic
    def ask(self, line: str, cell: str) -> None:
        """Ask what is in the cell, and show the answer while it arrives.

        The client is the variable `client`; if it does not exist, a client with the settings from
        the environment is created. If the answer is incomplete, the cell fails. `{name}` is the
        value of a variable, as in `str.format`; write `{{` and `}}` for braces.

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
        stream = self._show(cell.strip("\n"), partial(self._stream, args))
        if args.output is not None:
            self._names[args.output] = stream.reply()

    @no_var_expand
    @line_magic("ask")
    def ask_line(self, line: str) -> None:
        """Ask what follows in the line, and show the answer while it arrives.

        As `%%ask`, but without options.

        Example::

            %ask What is the capital of France?
        """
        if not line.strip():
            raise UsageError("The question is missing: write it after %ask, or in a cell of %%ask")
        if line.startswith("-"):
            raise UsageError("%ask has no options: use %%ask, with the question below it")
        self._show(line, lambda question: self._client(None).stream(question))

    def _show(self, question: str, open_stream: Callable[[str], Stream]) -> Stream:
        try:
            stream = open_stream(self._expanded(question))
        except (TypeError, ValueError, OSError) as error:
            raise UsageError(str(error)) from error
        try:
            stream.show()
        except (APIError, KeyboardInterrupt) as error:
            _show_in_one_line(error)
            raise
        return stream

    def _expanded(self, text: str) -> str:
        """The text with the values of the variables that it names.

        Unlike in IPython's own magics, an expression is not evaluated, because a question often has
        code in it that somebody else wrote.
        """
        try:
            return Formatter().vformat(text, (), self._names)
        except KeyError as error:
            raise UsageError(
                f"{error.args[0]} does not exist: create the variable, or correct the name. Write "
                "{{ and }} for braces"
            ) from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise UsageError(
                f"The question has wrong braces ({error}): write {{name}} for the value of a "
                "variable, {{ and }} for braces"
            ) from error

    @property
    def _names(self) -> dict[str, Any]:
        names: dict[str, Any] = self.shell.user_ns
        return names

    def _parsed(self, line: str) -> Namespace:
        try:
            words = [self._expanded(word) for word in arg_split(line)]
            args: Namespace = self.ask.parser.parse_args(words)
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
