"""The settings that answers depend on, kept beside a journal: another run must have the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .._prompt_sender import PromptSender
from .._settings import Settings
from ._output_files import foreign_file
from ._prompts import digest_of

MIN_RANDOM_PORT: Final = 32768
"""From here on, systems choose ports at random, so that the same site may have another one later.
All such sites of this machine count as one; their dialects and models still tell them apart."""

_SITE_OF_THIS_MACHINE: Final = "this machine"


def settings_of(requester: PromptSender) -> dict[str, Any]:
    """The settings that change answers, under the names that users know."""
    of_sites = [_settings_of_site(each.settings) for each in requester.requesters]
    return {name: _all_of([each[name] for each in of_sites]) for name in of_sites[0]}


def stable_name(base_url: str) -> str:
    """The base URL of a site, or a name that stays the same if its port may change."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    is_local = host == "localhost" or host.startswith("127.") or host == "::1"
    if is_local and (parts.port or 0) >= MIN_RANDOM_PORT:
        return _SITE_OF_THIS_MACHINE
    return base_url


def _settings_of_site(settings: Settings) -> dict[str, str | None]:
    return {
        "site": stable_name(settings.site.base_url),
        "dialect": settings.site.dialect.name,
        "model": settings.model,
        # A digest shows that it has changed without writing the text to a file.
        "system": None if settings.system is None else digest_of(settings.system),
    }


def _all_of(values: list[str | None]) -> str | None:
    """The values in one: the order of several sites does not matter."""
    if len(set(values)) == 1:
        return values[0]
    return ", ".join(sorted({"none" if value is None else value for value in values}))


def check_settings(path: Path, settings: Mapping[str, Any], answers: Path | None) -> None:
    """Compare the settings with those of earlier runs; without answers, write them.

    Args:
        path: the file with the settings.
        settings: those of this run.
        answers: the file with the answers of earlier runs; ``None`` if there are none.

    Raises:
        ValueError: they differ, which is explained; or the file is not from a batch.
        OSError: it cannot be written.
    """
    before = _read_settings(path)
    if path.exists() and (before is None or before.keys() != settings.keys()):
        raise foreign_file(path)
    if before is None or answers is None:
        text = json.dumps(settings, indent=1, ensure_ascii=False)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)
        return
    differing = "; ".join(_differences(before, settings))
    if differing:
        raise ValueError(
            f"{answers} has answers made with other settings: {differing}. Name another output, or "
            "use the same settings"
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(now):
        old, new = before[name], now[name]
        if old == new:
            continue
        if name != "system":
            yield f"the {name} was {_in_words(old)} and is {_in_words(new)} now"
        elif old is None:
            yield "there was no system prompt, and there is one now"
        elif new is None:
            yield "there was a system prompt, and there is none now"
        else:
            yield "the system prompt has changed"


def _in_words(value: object) -> str:
    return "not set" if value is None else str(value)


def _read_settings(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
