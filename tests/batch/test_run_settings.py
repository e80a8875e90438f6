"""The settings that another run must have."""

from __future__ import annotations

import pytest

from aichatfree.batch._run_settings import stable_name


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:41234", "this machine"),
        ("http://[::1]:50000", "this machine"),
        ("https://chat.example:50000", "https://chat.example:50000"),
    ],
)
def test_only_a_random_port_of_this_machine_is_ignored(base_url: str, name: str) -> None:
    """A gateway at a random port can continue a run at another one; other sites are told apart."""
    assert stable_name(base_url) == name
