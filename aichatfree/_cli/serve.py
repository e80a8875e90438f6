"""``aichatfree serve``: a gateway on this machine."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from typing import Any, Final, NoReturn

import click

from .messages import show_log
from .options import load_model, usage_errors

_POLL_INTERVAL: Final = 0.2  # seconds


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--upstream", metavar="URL", help="Answer from this OpenAI-compatible API; its URL up to /v1."
)
@click.option("--model", help="The upstream's model.")
def serve(host: str, port: int, upstream: str | None, model: str | None) -> NoReturn:
    """Serve a model on this machine until Ctrl-C.

    It speaks the chat sites' protocol, and answers from a small built-in model, or from --upstream
    (its key in AICHATFREE_API_KEY). Clients need the same AICHATFREE_SECRET and AICHATFREE_PASSWORD
    as set here; without both, only this machine is served.

    \b
    Examples:
      aichatfree serve --port 8000
      aichatfree serve --upstream http://127.0.0.1:11434/v1 --model llama3.2
    """
    if bool(upstream) != bool(model):
        raise click.UsageError("--upstream and --model go together: give both, or neither.")
    secret = os.environ.get("AICHATFREE_SECRET", "")
    password = os.environ.get("AICHATFREE_PASSWORD") or None
    show_log("aichatfree.gateway", "%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        with usage_errors():
            from ..gateway import Gateway, OpenAIUpstream, SmolLM2

            if upstream and model:
                key = os.environ.get("AICHATFREE_API_KEY") or None
                engine: Any = OpenAIUpstream(upstream, model, key)
            else:
                engine = SmolLM2()
            # Before the model is downloaded, because the arguments are checked here.
            try:
                gateway = Gateway(engine, host, port, secret=secret, password=password)
            except OSError as error:
                raise click.ClickException(str(error.strerror)) from error
            stack.enter_context(gateway)
            if upstream:
                stack.callback(engine.close)
            else:
                load_model(engine, stack)
        click.echo(_client_settings(gateway.url, bool(secret), password is not None), err=True)
        while True:
            # Short waits, because a Ctrl-C just before a wait is noticed only after it.
            time.sleep(_POLL_INTERVAL)


def _client_settings(url: str, secret: bool, password: bool) -> str:
    lines = [
        f"Serving at {url} (Ctrl-C stops it). Clients need:",
        f"  export AICHATFREE_BASE_URL={url}",
    ]
    lines += ["  AICHATFREE_SECRET as set here"] * secret
    lines += ["  AICHATFREE_PASSWORD as set here"] * password
    return "\n".join(lines)
