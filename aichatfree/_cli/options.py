"""Options that several commands have, and the client that they describe."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from .._protocol.dialects import DIALECTS
from .messages import usage_error

if TYPE_CHECKING:
    # The commands import what they need from here when they run, to keep --help fast.
    from ..client import Client

SITES_FILE: Final = "aichatfree.toml"
"""Read from the current directory if nothing else names a site."""

F = TypeVar("F", bound=Callable[..., Any])


def site_options(command: F) -> F:
    """Add the options that choose the site."""
    for option in (
        click.option(
            "--timeout", type=float, metavar="SECONDS", help="The time limit of each call."
        ),
        click.option("--model", help="The model named in requests; most sites ignore it."),
        click.option(
            "--dialect",
            type=click.Choice(list(DIALECTS)),
            help="The site's dialect (AICHATFREE_DIALECT, or gemini).",
        ),
        click.option(
            "--sites",
            metavar="FILE",
            help="A TOML file of several sites (AICHATFREE_SITES, or aichatfree.toml).",
        ),
        click.option(
            "--base-url",
            "--site",
            metavar="URL",
            multiple=True,
            help="The site's address (AICHATFREE_BASE_URL); repeat it to use several.",
        ),
        click.option("--local", is_flag=True, help="Answer from the small model on this machine."),
    ):
        command = option(command)
    return command


@contextmanager
def open_client(
    local: bool,
    base_url: Sequence[str],
    sites: str | None,
    dialect: str | None,
    model: str | None,
    timeout: float | None,
    **settings: Any,
) -> Iterator[Client]:
    """A client for these options; a router if they name several sites."""
    if local + bool(base_url) + bool(sites) > 1:
        raise click.UsageError("--local, --base-url and --sites exclude each other: leave one out.")
    urls = ["local"] if local else base_url
    path = _file_of_sites(urls, sites)
    with usage_errors():
        client = _client(urls, path, {"dialect": dialect, "model": model, **settings})
        if timeout is not None:
            from ..timeout import Timeout

            limits = Timeout(connect=timeout, read=timeout, total=timeout)
            client = client.with_options(timeout=limits)
    with client:
        yield client


def _file_of_sites(urls: Sequence[str], sites: str | None) -> str | None:
    """The file of sites: as given, of the environment, or in this directory if no site is named."""
    if urls or sites:
        return sites
    from .._sites_file import file_of_environment

    if path := file_of_environment():
        return path
    here = os.path.exists(SITES_FILE) and not os.environ.get("AICHATFREE_BASE_URL")
    return SITES_FILE if here else None


def _client(urls: Sequence[str], sites: str | None, settings: dict[str, Any]) -> Client:
    from ..client import Client
    from ..router import Router

    if sites is None:
        if len(urls) <= 1:
            return Client(*urls, **settings)
        return Router([Client(url, **settings) for url in urls])
    system = settings.pop("system", None)
    if any(value is not None for value in settings.values()):
        raise ValueError(
            f"--dialect, --model and --rpm belong to each site in {sites}: leave them out"
        )
    with usage_errors(OSError):
        router = Router.from_file(sites)
    return router if system is None else router.with_options(system=system)


@contextmanager
def usage_errors(*more: type[Exception]) -> Iterator[None]:
    """Report wrong arguments as wrong usage (exit code 2), and missing extras as a failure."""
    kinds: tuple[type[Exception], ...] = (TypeError, ValueError, *more)
    try:
        yield
    except kinds as error:
        raise usage_error(error) from error
    except ImportError as error:
        raise click.ClickException(str(error)) from error
