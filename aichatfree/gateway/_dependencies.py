"""The libraries of the extra ``local``: imported when they are needed, not before."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from .._extras import install_command


def import_dependency(name: str) -> ModuleType:
    """The module of this name.

    Raises:
        ImportError: it cannot be imported; the message says what to install.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != name:
            raise
        raise ImportError(f"{name} is not installed: {install_command('local')}") from None
    except (ImportError, OSError) as error:
        # xllamacpp's binary needs this library, which no Python package contains.
        if "libgomp" not in str(error):
            raise
        raise ImportError(
            f"{name} needs the system library libgomp.so.1, which is not installed: "
            "apt-get install libgomp1 (in other distributions the package may be called libgomp)"
        ) from error
