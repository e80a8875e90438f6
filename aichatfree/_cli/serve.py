"""``aichatfree serve``: a gateway on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlsplit

import click

from .._protocol.dialects import DIALECTS
from .messages import show_log
from .options import usage_errors

if TYPE_CHECKING:
    from ..gateway import Engine

_POLL_INTERVAL: Final = 0.2  # seconds
_THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--upstream", metavar="URL", help="Answer from this OpenAI-compatible API; its URL up to /v1."
)
@click.option("--site", metavar="URL", help="Answer from this chat site.")
@click.option(
    "--dialect", type=click.Choice(list(DIALECTS)), help="The site's dialect (AICHATFREE_DIALECT)."
)
@click.option("--model", help="The model of the upstream, or of a site that has several.")
@click.option(
    "--allow-truncated",
    is_flag=True,
    help="Send chat clients an answer that stopped at a limit of tokens as if it were complete.",
)
def serve(
    host: str,
    port: int,
    upstream: str | None,
    site: str | None,
    dialect: str | None,
    model: str | None,
    allow_truncated: bool,
) -> NoReturn:
    """Serve a model on this machine until Ctrl-C.

    It speaks the chat sites' protocol and OpenAI's API, and answers from a small built-in model,
    from --upstream (its key in AICHATFREE_API_KEY), or from --site (its secret and password in
    AICHATFREE_SITE_SECRET and AICHATFREE_SITE_PASSWORD). Clients need the same AICHATFREE_SECRET
    and AICHATFREE_PASSWORD as set here; OpenAI's need the password as their key. Without both, only
    this machine is served.

    \b
    Examples:
      aichatfree serve --port 8000
      aichatfree serve --upstream http://127.0.0.1:11434/v1 --model llama3.2
      aichatfree serve --site https://chat.example --dialect openai
    """
    if upstream and site:
        raise click.UsageError("--upstream and --site exclude each other: leave one out.")
    if not site and bool(upstream) != bool(model):
        raise click.UsageError("--upstream and --model go together: give both, or neither.")
    if dialect and not site:
        raise click.UsageError("--dialect is that of a --site: give both, or neither.")
    secret = os.environ.get("AICHATFREE_SECRET", "")
    password = os.environ.get("AICHATFREE_PASSWORD") or None
    show_log("aichatfree.gateway", "%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        with usage_errors():
            from ..gateway import Gateway

            engine, prepare = _engine(upstream, site, dialect, model)
            # Closed last, so that running answers can be completed.
            stack.callback(engine.close)
            try:
                gateway = Gateway(
                    engine,
                    host,
                    port,
                    secret=secret,
                    password=password,
                    allow_truncated=allow_truncated,
                )
            except OSError as error:
                raise click.ClickException(str(error.strerror)) from error
            stack.enter_context(gateway)
            if site and _lead_to_the_same(site, gateway.url):
                raise click.UsageError(f"--site {site} is this gateway itself: name another site.")
            prepare()
        click.echo(_client_settings(gateway.url, bool(secret), password is not None), err=True)
        while True:
            # Short waits, because a Ctrl-C just before a wait is noticed only after it.
            time.sleep(_POLL_INTERVAL)


def _engine(
    upstream: str | None, site: str | None, dialect: str | None, model: str | None
) -> tuple[Engine, Callable[[], object]]:
    """The engine, and what to do before it serves, once all arguments have been checked."""
    from ..gateway import Engine, OpenAIUpstream, SiteEngine, SmolLM2

    if upstream and model:
        server = OpenAIUpstream(upstream, model, os.environ.get("AICHATFREE_API_KEY") or None)
        return server, server.check
    if not site:
        # Loading it can take longer than a request may, because it may have to be downloaded.
        embedded = SmolLM2()
        return embedded, embedded.load
    from ..client import Client

    secret = os.environ.get("AICHATFREE_SITE_SECRET", "")
    client = Client(site, dialect=dialect, model=model, secret=secret)
    # Not in the constructor, where no password means that of the environment: the gateway's own.
    client = client.with_options(password=os.environ.get("AICHATFREE_SITE_PASSWORD") or None)
    return SiteEngine(client, models=[model] if model else Engine.models), lambda: None


def _lead_to_the_same(site: str, gateway: str) -> bool:
    ends = [urlsplit(site), urlsplit(gateway)]
    hosts = {"127.0.0.1" if end.hostname in _THIS_MACHINE else end.hostname for end in ends}
    return len(hosts) == 1 and ends[0].port == ends[1].port


def _client_settings(url: str, secret: bool, password: bool) -> str:
    lines = [
        f"Serving at {url} (Ctrl-C stops it). Clients need:",
        f"  export AICHATFREE_BASE_URL={url}",
    ]
    lines += ["  AICHATFREE_SECRET as set here"] * secret
    lines += ["  AICHATFREE_PASSWORD as set here"] * password
    if secret and not password:
        return "\n".join(
            [*lines, "OpenAI's clients need AICHATFREE_PASSWORD to be set here as well."]
        )
    key = "AICHATFREE_PASSWORD as set here" if password else "any text"
    lines += [
        "OpenAI's clients need:",
        f"  export OPENAI_BASE_URL={url}/v1",
        f"  OPENAI_API_KEY: {key}",
    ]
    return "\n".join(lines)
