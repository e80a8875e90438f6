"""The libraries of the extra `local`."""

from __future__ import annotations

import pytest

from aichatfree._extras import install_command
from helpers import run_python

LIBRARIES = ("aiohttp", "xllamacpp", "platformdirs")


def test_importing_the_gateway_does_not_import_the_extra() -> None:
    """`import aichatfree.gateway` works, and is quick, without the libraries of the extra."""
    done = run_python(
        f"""
        import sys, aichatfree.gateway
        print([name for name in {LIBRARIES} if name in sys.modules])
        """
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def creation_error(prelude: str) -> str:
    """The message of the `ImportError` that `Gateway()` raises after this code has run."""
    done = run_python(
        f"""
import sys
{prelude}
from aichatfree.gateway import Gateway
try:
    Gateway()
except ImportError as error:
    print(error)
"""
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("library", ["aiohttp", "xllamacpp"])
def test_the_error_of_a_missing_library_says_how_to_install_the_extra(library: str) -> None:
    """Without the extra, creating a gateway fails with the command that installs it."""
    message = creation_error(f"sys.modules[{library!r}] = None")
    assert message == f"{library} is not installed: {install_command('local')}"


@pytest.mark.parametrize("error", ["ImportError", "OSError"])
def test_the_error_of_a_missing_libgomp_names_the_debian_package(error: str) -> None:
    """If the system library that xllamacpp needs is missing, the error says how to install it."""
    message = creation_error(
        f"""
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "xllamacpp":
            raise {error}(
                "libgomp.so.1: cannot open shared object file: No such file or directory"
            )
sys.meta_path.insert(0, Finder())
"""
    )
    assert "needs the system library libgomp.so.1" in message
    assert "apt-get install libgomp1" in message
