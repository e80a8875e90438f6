"""Options that several commands have, and the client that they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .._protocol.dialects import DIALECTS

if TYPE_CHECKING:
    # The commands import what they need from here when they run, to keep --help fast.
    from ..client import Client

F = TypeVar("F", bound=Callable[..., Any])


def site_options(command: F) -> F:
    """Add the options that choose the site."""
    for option in (
        click.option("--model", help="The model named in requests; most sites ignore it."),
        click.option(
            "--dialect",
            type=click.Choice(list(DIALECTS)),
            help="The site's dialect (AICHATFREE_DIALECT, or gemini).",
        ),
        click.option("--base-url", metavar="URL", help="The site's address (AICHATFREE_BASE_URL)."),
        click.option("--local", is_flag=True, help="Answer from the small model on this machine."),
    ):
        command = option(command)
    return command


@contextmanager
def open_client(
    local: bool, base_url: str | None, dialect: str | None, model: str | None, **settings: Any
) -> Iterator[Client]:
    """A client for these options."""
    if local and base_url:
        raise click.UsageError("--local and --base-url exclude each other: leave one out.")
    with usage_errors():
        from ..client import Client

        client = Client("local" if local else base_url, dialect=dialect, model=model, **settings)
    with client:
        yield client


@contextmanager
def usage_errors(*more: type[Exception]) -> Iterator[None]:
    """Report wrong arguments as wrong usage (exit code 2), and missing extras as a failure."""
    kinds: tuple[type[Exception], ...] = (TypeError, ValueError, *more)
    try:
        yield
    except kinds as error:
        raise click.UsageError(str(error)) from error
    except ImportError as error:
        raise click.ClickException(str(error)) from error
