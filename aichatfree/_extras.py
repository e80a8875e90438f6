"""How to install the libraries of an extra."""

from __future__ import annotations

from importlib.metadata import distributions


def install_command(extra: str) -> str:
    """The command that installs an extra: from the checkout if the package came from one."""
    # A file that pip writes; "dir_info" in it is a local directory, editable or not.
    sources = [
        found.read_text("direct_url.json") or "" for found in distributions(name="aichatfree")
    ]
    source = "." if any("dir_info" in text for text in sources) else "aichatfree"
    return f'pip install "{source}[{extra}]"'
