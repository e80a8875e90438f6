"""``aichatfree check``: whether the settings are right for the site."""

from __future__ import annotations

from typing import Any

import click

from .._output.terminal import strip_control_characters
from .messages import in_colour
from .options import open_client, site_options
from .wording import for_command_line

_COLOURS: dict[bool | None, str] = {True: "green", False: "red", None: "yellow"}
"""By ``Finding.ok``: right, wrong, unknown."""


@click.command()
@click.argument("url", default="")
@site_options
def check(url: str, **site: Any) -> int:
    """Try each setting on the site, and say what to change.

    URL is the site's address, as with --base-url.

    \b
    Examples:
      aichatfree check --local
      aichatfree check http://127.0.0.1:8000
    """
    if url:
        site["base_url"] = (url, *site["base_url"])
    with open_client(**site) as client:
        health = client.check()
    for url, findings in health.by_site.items():
        if len(health.by_site) > 1:
            click.echo(url)
        for finding in findings:
            shown = for_command_line(strip_control_characters(str(finding)))
            mark, space, words = shown.partition(" ")
            click.echo(in_colour(mark, _COLOURS[finding.ok]) + space + words)
    return 0 if health.ok else 1
