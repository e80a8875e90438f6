"""Reads a TOML file of sites."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final

from ._local import LOCAL, site_of_base_url
from ._protocol.sites import Site
from ._requester import Requester
from ._settings import ConnectionOptions, Settings, environment
from .retry import RetryPolicy
from .timeout import Timeout

_KEYS: Final = (
    *("base_url", "dialect", "model", "system", "max_requests_per_minute"),
    *("secret_env", "password_env", "ignore"),
)
_OF_SITES: Final = ("dialect", "secret_env", "password_env")
_IN_ENVIRONMENT: Final = ("secret", "password")


def file_of_environment() -> str | None:
    """The file of sites that ``AICHATFREE_SITES`` names, if that is set."""
    return environment("SITES")


def read_sites(path: str | os.PathLike[str]) -> list[Requester]:
    """A requester for each ``[[site]]`` of the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not such a file, or a variable that it names is not set.
        ImportError, AIChatFreeError: it names the built-in model, which cannot be used.
    """
    with ExitStack() as failed:
        requesters = []
        for number, site in enumerate(_read_tables(path), 1):
            requesters.append(_requester(site, f"{os.fspath(path)}, site {number}"))
            failed.callback(requesters[-1].close)
        failed.pop_all()
    return requesters


def _read_tables(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The ``[[site]]`` tables of the file."""
    with open(path, "rb") as file:
        try:
            content = tomllib.load(file)
        except ValueError as error:  # UnicodeDecodeError is one, too
            raise ValueError(f"{os.fspath(path)} is not a TOML file: {error}") from None
    sites = content.pop("site", None)
    if content:
        raise ValueError(f"{os.fspath(path)}: unknown key {next(iter(content))!r}; use [[site]]")
    if not isinstance(sites, list) or not all(isinstance(site, dict) for site in sites):
        raise ValueError(f"{os.fspath(path)} has no sites: begin each with a line [[site]]")
    return sites


def _requester(site: Mapping[str, Any], where: str) -> Requester:
    _check_keys(site, where)
    try:
        with site_of_base_url(site["base_url"]) as (base_url, on_close):
            return _requester_of(base_url, site, on_close)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _requester_of(
    base_url: str | Site, site: Mapping[str, Any], on_close: Callable[[], None] | None
) -> Requester:
    settings = Settings.from_arguments(
        base_url if isinstance(base_url, Site) else Site(base_url, ignore=site.get("ignore", ())),
        site.get("dialect"),
        _variable(site.get("secret_env")),
        _variable(site.get("password_env")),
        site.get("model"),
        site.get("system"),
        Timeout(),
        RetryPolicy(),
    )
    # What the environment says about one site does not hold for all the sites of a file.
    settings = dataclasses.replace(
        settings,
        password=_variable(site.get("password_env")),
        model=site.get("model"),
        secret_env=site.get("secret_env"),
        password_env=site.get("password_env"),
    )
    return Requester(settings, ConnectionOptions(site.get("max_requests_per_minute")), on_close)


def _check_keys(site: Mapping[str, Any], where: str) -> None:
    for name in _IN_ENVIRONMENT:
        if name in site:
            raise ValueError(
                f"{where}: {name!r} must not be in a file. Put it into an environment variable, "
                f"and name that with {name}_env"
            )
    unknown = [key for key in site if key not in _KEYS]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
    if "base_url" not in site:
        raise ValueError(f"{where}: base_url is missing")
    if site["base_url"] == LOCAL and (useless := [key for key in _OF_SITES if key in site]):
        raise ValueError(f"{where}: the built-in model has no {useless[0]}: leave it out")


def _variable(name: object) -> str | None:
    """The value of an environment variable that the file names; ``None`` if it names none."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"secret_env and password_env take a name, not {type(name).__name__}")
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"the environment variable {name} is not set: export it first")
    return value
