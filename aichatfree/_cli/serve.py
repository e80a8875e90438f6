"""``aichatfree serve``: a gateway on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlsplit

import click

from .._protocol.dialects import DIALECTS
from .messages import show_log
from .options import usage_errors

if TYPE_CHECKING:
    from ..client import Client
    from ..gateway import Engine

_POLL_INTERVAL: Final = 0.2  # seconds
_THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--upstream", metavar="URL", help="Answer from this OpenAI-compatible API; its URL up to /v1."
)
@click.option(
    "--site", metavar="URL", multiple=True, help="Answer from this chat site; repeat it for more."
)
@click.option("--sites", metavar="FILE", help="Answer from the chat sites in this TOML file.")
@click.option(
    "--dialect",
    type=click.Choice(list(DIALECTS)),
    help="The dialect of each --site (AICHATFREE_DIALECT).",
)
@click.option("--model", help="The model of the upstream, or of each --site that has several.")
@click.option(
    "--allow-truncated",
    is_flag=True,
    help="Send chat clients an answer that stopped at a token limit as if it were complete.",
)
def serve(
    host: str,
    port: int,
    upstream: str | None,
    site: Sequence[str],
    sites: str | None,
    dialect: str | None,
    model: str | None,
    allow_truncated: bool,
) -> NoReturn:
    """Serve a model on this machine until Ctrl-C.

    It speaks the chat sites' protocol and OpenAI's API, and answers from a small built-in model,
    from --upstream (its key in AICHATFREE_API_KEY), from each --site (their secret and password in
    AICHATFREE_SITE_SECRET and AICHATFREE_SITE_PASSWORD), or from a file of --sites. Clients need
    the same AICHATFREE_SECRET and AICHATFREE_PASSWORD as set here; OpenAI's need the password as
    their key. Without both, only this machine is served.

    \b
    Examples:
      aichatfree serve --port 8000
      aichatfree serve --upstream http://127.0.0.1:11434/v1 --model llama3.2
      aichatfree serve --site https://chat.example --dialect openai
    """
    if bool(upstream) + bool(site) + bool(sites) > 1:
        raise click.UsageError("--upstream, --site and --sites exclude each other: use one.")
    if not site and bool(upstream) != bool(model):
        raise click.UsageError("--upstream and --model go together: give both, or neither.")
    if dialect and not site:
        raise click.UsageError("--dialect is that of each --site: give both, or neither.")
    secret = os.environ.get("AICHATFREE_SECRET", "")
    password = os.environ.get("AICHATFREE_PASSWORD") or None
    show_log("aichatfree.gateway", "%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        with usage_errors():
            from ..gateway import Gateway

            engine = _engine(upstream, site, sites, dialect, model)
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
            if any(_lead_to_the_same(url, gateway.url) for url in site):
                raise click.UsageError("--site is this gateway itself: name another site.")
            _prepare(engine)
        click.echo(_client_settings(gateway.url, bool(secret), password is not None), err=True)
        while True:
            # Short waits, because a Ctrl-C just before a wait is noticed only after it.
            time.sleep(_POLL_INTERVAL)


def _engine(
    upstream: str | None,
    site: Sequence[str],
    sites: str | None,
    dialect: str | None,
    model: str | None,
) -> Engine:
    from ..gateway import Engine, OpenAIUpstream, SiteEngine, SmolLM2

    if upstream and model:
        return OpenAIUpstream(upstream, model, os.environ.get("AICHATFREE_API_KEY") or None)
    if not site and not sites:
        return SmolLM2()
    from ..router import Router

    if sites:
        with usage_errors(OSError):
            return SiteEngine(Router.from_file(sites))
    clients = [_client(url, dialect, model) for url in site]
    client = clients[0] if len(clients) == 1 else Router(clients)
    return SiteEngine(client, models=[model] if model else Engine.models)


def _client(url: str, dialect: str | None, model: str | None) -> Client:
    from ..client import Client

    secret = os.environ.get("AICHATFREE_SITE_SECRET", "")
    client = Client(url, dialect=dialect, model=model, secret=secret)
    # Not in the constructor, where no password means that of the environment: the gateway's own.
    return client.with_options(password=os.environ.get("AICHATFREE_SITE_PASSWORD") or None)


def _prepare(engine: Engine) -> None:
    """What takes long or may fail, once all arguments have been checked and the port is open."""
    from ..gateway import OpenAIUpstream, SmolLM2

    if isinstance(engine, SmolLM2):
        engine.load()  # may download it, which can take longer than a request may
    elif isinstance(engine, OpenAIUpstream):
        engine.check()


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
    lines += ["OpenAI's clients need:", f"  export OPENAI_BASE_URL={url}/v1"]
    lines += [
        "  OPENAI_API_KEY: AICHATFREE_PASSWORD as set here"
        if password
        else "  export OPENAI_API_KEY=any"
    ]
    return "\n".join(lines)
