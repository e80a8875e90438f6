"""The command that installs an extra, in messages about missing libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import run_python


def test_an_executor_without_ray_says_what_to_install() -> None:
    """Ray is imported only for an executor, whose error without it has the command."""
    done = run_python(
        """
        import sys
        sys.modules["ray"] = None  # as if it was not installed
        from aichatfree.batch import RayExecutor
        try:
            RayExecutor()
        except ImportError as error:
            print(error)
        """
    )
    assert done.stdout.startswith("ray is not installed, which RayExecutor needs: pip install ")
    assert "[ray]" in done.stdout


@pytest.mark.parametrize(
    ("direct_url", "command"),
    [
        ('{"dir_info": {"editable": true}, "url": "file:///src"}', 'pip install ".[local]"'),
        ('{"dir_info": {}, "url": "file:///src"}', 'pip install ".[local]"'),
        ('{"vcs_info": {"vcs": "git"}, "url": "https://x"}', 'pip install "aichatfree[local]"'),
        (None, 'pip install "aichatfree[local]"'),
    ],
)
def test_the_command_names_where_the_package_came_from(
    tmp_path: Path, direct_url: str | None, command: str
) -> None:
    """A package from a checkout, editable or not, names the checkout; another one the index."""
    metadata = tmp_path / "aichatfree-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: aichatfree\nVersion: 0.1.0\n")
    if direct_url is not None:
        (metadata / "direct_url.json").write_text(direct_url)
    done = run_python(
        """
        import sys
        from aichatfree._extras import install_command
        sys.path[:] = [sys.argv[1]]  # the real installation is not found
        print(install_command("local"))
        """,
        str(tmp_path),
    )
    assert (done.stdout, done.stderr) == (f"{command}\n", "")
