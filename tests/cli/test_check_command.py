"""``aichatfree check``: what it prints."""

from __future__ import annotations

from aichatfree.testing import FakeSite
from helpers import run


def test_check_prints_a_line_for_each_setting() -> None:
    """``check`` exits with 0 if all settings are right, and with 1 if one must be changed."""
    with FakeSite("Hello", verify=True, secret="s") as site:
        right = run("check", url=site.url, SECRET="s")
        wrong = run("check", site.url, SECRET="x")
    assert right.returncode == 0
    assert right.stdout.count(b"\n") == 5
    assert wrong.returncode == 1
    assert b"WRONG signature" in wrong.stdout
    assert b"AICHATFREE_SECRET" in wrong.stdout
