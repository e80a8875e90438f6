"""The command line: ``ask``, ``chat``, ``batch``, ``serve`` and ``check``."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from .._deadlines import Timeout
from .._output.terminal import without_control, write_chunks
from .._protocol.dialects import DIALECTS
from .._version import __version__
from ..errors import AIChatFreeError

if TYPE_CHECKING:
    # The commands import what they need of these, so that --help does not wait for it.
    from ..batch import Batch, BatchResult
    from ..chat import Chat
    from ..client import Client
    from ..stream import Stream

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED = 130

COLOURS: dict[bool | None, str] = {True: "green", False: "red", None: "yellow"}
"""Of what is right, wrong and unknown."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="aichatfree")
def cli() -> None:
    """Talk to a chat site that speaks the AIChatFree protocol, or to a model on this machine.

    The site and its keys come from AICHATFREE_BASE_URL, AICHATFREE_DIALECT, AICHATFREE_SECRET,
    AICHATFREE_PASSWORD and AICHATFREE_MODEL. Secrets have no options, because other users of a
    machine can see a command line.

    \b
    Example:
      aichatfree ask --local "Hello, how are you?"

    \b
    For Tab to complete commands, options and files, in the shell's startup file:
      eval "$(_AICHATFREE_COMPLETE=bash_source aichatfree)"  # bash
      eval "$(_AICHATFREE_COMPLETE=zsh_source aichatfree)"   # zsh
      _AICHATFREE_COMPLETE=fish_source aichatfree | source   # fish
    """


def site_options(command: F) -> F:
    """The options that say whom to talk to."""
    for option in (
        click.option("--model", help="The model to name; most sites ignore it."),
        click.option(
            "--dialect",
            type=click.Choice(list(DIALECTS)),
            help="The site's; AICHATFREE_DIALECT, or gemini.",
        ),
        click.option("--base-url", metavar="URL", help="The site; AICHATFREE_BASE_URL."),
        click.option("--local", is_flag=True, help="Answer from the small model on this machine."),
    ):
        command = option(command)
    return command


@contextmanager
def open_client(
    local: bool, base_url: str | None, dialect: str | None, model: str | None, **settings: Any
) -> Iterator[Client]:
    """A client for these options, with a gateway of its own if they say so."""
    if local and base_url:
        raise click.UsageError("--local and --base-url exclude each other.")
    with ExitStack() as stack:
        with bad_input():
            if local:
                from ..gateway import Gateway, SmolLM2

                secret = secrets.token_hex(16)
                gateway = stack.enter_context(Gateway(loaded(SmolLM2(), stack), secret=secret))
                base_url, settings = gateway.url, {**settings, "secret": secret}
            from ..client import Client

            client = Client(base_url, dialect=dialect, model=model, **settings)
        yield stack.enter_context(client)


def loaded(model: Any, stack: ExitStack) -> Any:
    """The model, ready: fetching and loading it takes longer than a request may."""
    stack.callback(model.close)
    model.load()
    return model


@contextmanager
def bad_input(*more: type[Exception]) -> Iterator[None]:
    """Turn what the package says of wrong arguments into wrong usage (exit code 2)."""
    kinds: tuple[type[Exception], ...] = (TypeError, ValueError, *more)
    try:
        yield
    except kinds as error:
        raise click.UsageError(str(error)) from error
    except ImportError as error:
        raise click.ClickException(str(error)) from error


@cli.command()
@click.argument("prompt", required=False)
@click.option("--system", help="A system prompt.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when it is whole.")
@click.option("--timeout", type=float, metavar="SECONDS", help="The longest it may take in all.")
@site_options
def ask(
    prompt: str | None, system: str | None, as_json: bool, timeout: float | None, **site: Any
) -> int:
    """Ask once and print the answer as it arrives.

    PROMPT is read from standard input if it is left out or "-".

    \b
    Examples:
      aichatfree ask --local "Hello, how are you?"
      echo "Name three rivers." | aichatfree ask --local --json
    """
    show_retries()
    question = read_prompt() if prompt in (None, "-") else prompt
    with open_client(**site) as client:
        with bad_input():
            limits = None if timeout is None else Timeout(total=timeout)
            stream = client.stream(question or "", system=system, timeout=limits)
        return print_json(stream) if as_json else print_stream(stream)


def read_prompt() -> str:
    """The whole of standard input, which must be UTF-8 text."""
    if sys.stdin.isatty():
        raise click.UsageError('Give a prompt, or pipe one in: echo "Hello" | aichatfree ask')
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"Standard input is not UTF-8 text (byte {error.start}): convert it first, for "
            "example with iconv."
        ) from error


def print_stream(stream: Stream) -> int:
    with stream:
        try:
            write_chunks(stream)
        except AIChatFreeError as error:
            return report(error)
    return 0


def print_json(stream: Stream) -> int:
    error: AIChatFreeError | None = None
    try:
        stream.read()
    except AIChatFreeError as failure:
        error = failure
    result: dict[str, Any] = {"text": stream.text, "complete": stream.complete}
    if error is None:
        reply = stream.reply()
        figures = {"elapsed": reply.elapsed, "time_to_first_chunk": reply.time_to_first_chunk}
        result |= {"attempts": reply.attempts}
        result |= {name: round(seconds, 3) for name, seconds in figures.items()}
    else:
        result |= {"attempts": stream.attempts}
        result["error"] = {"type": type(error).__name__, "message": str(error)}
    click.echo(json.dumps(result, ensure_ascii=not is_utf8(sys.stdout)))
    return 0 if error is None else report(error)


def is_utf8(stream: Any) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def coloured(text: str, colour: str) -> str:
    """The text in colour for a terminal; ``click.echo`` takes it off for everything else."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, fg=colour)


def report(error: BaseException) -> int:
    click.echo(f"{coloured('aichatfree:', 'red')} {without_control(str(error))}", err=True)
    return 1


@cli.command()
@click.option("--system", help="A system prompt.")
@site_options
def chat(system: str | None, **site: Any) -> int:
    """Talk in turns. Ctrl-C stops an answer, Ctrl-D ends the conversation.

    Lines piped in are asked one after the other.

    \b
    Example:
      aichatfree chat --local --system "Answer in one sentence."
    """
    show_retries()
    interactive = sys.stdin.isatty()
    if interactive:
        with suppress(ImportError):
            import readline  # noqa: F401  (gives input() its line editing)
        click.echo("Ctrl-C stops an answer, Ctrl-D ends the conversation.", err=True)
    with open_client(**site) as client:
        talk = client.chat(system=system, on_partial="keep")
        codes = [turn(talk, line, interactive) for line in read_turns(interactive)]
    return 0 if interactive else max(codes, default=0)


def read_turns(interactive: bool) -> Iterator[str]:
    while True:
        try:
            line = input("> ") if interactive else read_line()
        except EOFError:
            if interactive:
                click.echo()
            return
        except KeyboardInterrupt:
            if not interactive:
                raise
            click.echo()  # as a shell does: Ctrl-C drops the line
            continue
        if line.strip():
            yield line


def read_line() -> str:
    line = sys.stdin.buffer.readline()
    if not line:
        raise EOFError
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise click.UsageError("Standard input is not UTF-8 text: convert it first.") from error


def turn(talk: Chat, line: str, interactive: bool) -> int:
    try:
        return print_stream(talk.stream(line))
    except KeyboardInterrupt:
        if not interactive:
            raise
        click.echo()
        return INTERRUPTED


@cli.command()
@click.argument("prompts", default="-", type=click.Path(allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE.jsonl",
    help="Where answers go as they come, failures to FILE.errors.jsonl; else stdout, in order.",
)
@click.option("--workers", default=16, show_default=True, help="Threads that ask at once.")
@click.option("--rpm", type=float, metavar="N", help="The site's limit, in requests a minute.")
@click.option("--system", help="A system prompt for all of them.")
@click.option("--column", help="The column of a .csv file that has the prompts.")
@click.option("--unordered", is_flag=True, help="Answers as they come, on stdout too.")
@click.option("--dedupe", is_flag=True, help="Send identical prompts once.")
@click.option("--max-errors", type=int, metavar="N", help="Stop after more failures than this.")
@click.option("--dask", metavar="ADDRESS", help="Ask from the workers of this Dask scheduler.")
@site_options
def batch(
    prompts: str,
    output: str | None,
    workers: int,
    rpm: float | None,
    system: str | None,
    column: str | None,
    unordered: bool,
    dedupe: bool,
    max_errors: int | None,
    dask: str | None,
    **site: Any,
) -> int:
    """Ask many prompts.

    PROMPTS is a .jsonl, .txt or .csv file; without one they are the lines of standard input. Run
    the same command again to go on where it stopped, and to try failures again.

    \b
    Examples:
      aichatfree batch prompts.jsonl -o answers.jsonl --workers 32
      echo "Name a river." | aichatfree batch --local
    """
    if dask and site["local"]:
        raise click.UsageError("--local answers on this machine, --dask does not.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    show_log("aichatfree.batch", "%(message)s")
    from ..batch._prompts import PromptLines

    source = PromptLines(sys.stdin.buffer) if prompts == "-" else prompts
    with ExitStack() as stack:
        client = stack.enter_context(
            open_client(**site, system=system, max_requests_per_minute=rpm)
        )
        with bad_input(OSError):
            results = client.batch(
                source,
                max_workers=workers,
                ordered=not unordered,
                output=output,
                executor=stack.enter_context(dask_executor(dask)) if dask else None,
                # Answers on a terminal tell how far it is, and a bar would get between them.
                progress=False if output is None and sys.stdout.isatty() else None,
                max_errors=max_errors,
                dedupe=dedupe,
                column=column,
            )
        return run_batch(stack.enter_context(results), output)


def run_batch(results: Batch, output: str | None) -> int:
    last_error: Exception | None = None
    try:
        for result in results:
            last_error = result.error or last_error
            if output is None:
                print_result(result)
    except AIChatFreeError as error:
        report(error)
    except OSError as error:  # the disk is full, say; a reader that has gone is main's affair
        if isinstance(error, BrokenPipeError):
            raise
        report(error)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    finally:
        results.close()
        for result in results.drain() if output is None else ():
            print_result(result)
        click.echo(str(results.summary), err=True)
        if last_error is not None:
            click.echo(f"The last failure: {without_control(str(last_error))}", err=True)
        if output is not None and not results.summary.complete and not sys.stderr.isatty():
            click.echo(f"Run it again to go on; {output} has what is finished.", err=True)
    summary = results.summary
    return 0 if summary.complete and not summary.failed else 1


def print_result(result: BatchResult) -> None:
    click.echo(json.dumps(result.to_row(), ensure_ascii=not is_utf8(sys.stdout)))


@contextmanager
def dask_executor(address: str) -> Iterator[Any]:
    try:
        distributed: Any = import_module("dask.distributed")
    except ImportError as error:
        raise click.ClickException('--dask needs: pip install "aichatfree[dask]"') from error
    try:
        dask = distributed.Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"no Dask scheduler answers at {address}: {error}") from error
    with dask:
        yield dask.get_executor(pure=False)


@cli.command()
@site_options
def check(**site: Any) -> int:
    """Try each setting on the site, and say what to change.

    \b
    Examples:
      aichatfree check --local
      aichatfree check --base-url http://127.0.0.1:8000
    """
    with open_client(**site) as client:
        health = client.check()
    for finding in health.findings:
        mark, space, words = without_control(str(finding)).partition(" ")
        click.echo(coloured(mark, COLOURS[finding.ok]) + space + words)
    return 0 if health.ok else 1


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--upstream", metavar="URL", help="An OpenAI-compatible API to answer from, up to /v1."
)
@click.option("--model", help="The upstream's model.")
def serve(host: str, port: int, upstream: str | None, model: str | None) -> NoReturn:
    """Serve a model on this machine until Ctrl-C.

    It speaks the chat sites' protocol, and answers from a small built-in model, or from --upstream
    (its key in AICHATFREE_API_KEY). AICHATFREE_SECRET and AICHATFREE_PASSWORD are what clients must
    know; without both it serves this machine only.

    \b
    Examples:
      aichatfree serve --port 8000
      aichatfree serve --upstream http://127.0.0.1:11434/v1 --model llama3.2
    """
    if bool(upstream) != bool(model):
        raise click.UsageError("--upstream and --model go together.")
    secret = os.environ.get("AICHATFREE_SECRET", "")
    password = os.environ.get("AICHATFREE_PASSWORD") or None
    show_log("aichatfree.gateway", "%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        with bad_input():
            from ..gateway import Gateway, OpenAIUpstream, SmolLM2

            if upstream and model:
                key = os.environ.get("AICHATFREE_API_KEY") or None
                engine: Any = OpenAIUpstream(upstream, model, key)
            else:
                engine = SmolLM2()
            # Made first, because its arguments are checked before the model is fetched.
            try:
                gateway = Gateway(engine, host, port, secret=secret, password=password)
            except OSError as error:
                raise click.ClickException(f"cannot serve there: {error.strerror}") from error
            stack.enter_context(gateway)
            if not upstream:
                loaded(engine, stack)
        click.echo(settings_for(gateway.url, bool(secret), password is not None), err=True)
        threading.Event().wait()
    raise AssertionError("unreachable: only a signal ends the wait")


def settings_for(url: str, secret: bool, password: bool) -> str:
    lines = [
        f"Serving at {url} (Ctrl-C stops it). Clients use:",
        f"  export AICHATFREE_BASE_URL={url}",
    ]
    lines += ["  AICHATFREE_SECRET as it is set here"] * secret
    lines += ["  AICHATFREE_PASSWORD as it is set here"] * password
    return "\n".join(lines)


def show_retries() -> None:
    if sys.stderr.isatty():
        show_log("aichatfree.retry", "%(message)s")


def show_log(name: str, form: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def run() -> int:
    """Run one command; its exit code is 0 answered, 1 failed, 2 wrong usage, 130 interrupted."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us, as daemons do
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        return int(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except AIChatFreeError as error:
        return report(error)
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():
            click.echo(err=True)  # what comes next should not follow the terminal's ^C
        return INTERRUPTED
    except OSError as error:
        # The disk is full, or nobody reads any more, which needs no words. Python would complain
        # once more at exit, when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if isinstance(error, BrokenPipeError) else report(error)
