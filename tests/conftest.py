"""Fixtures of all tests; what tests import is in ``helpers.py``."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aichatfree import Client
from helpers import FAST, ClientFor

# A shell starts background jobs with SIGINT ignored, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Child processes run in the checkout, and have to import the installed package all the same.
os.environ["PYTHONSAFEPATH"] = "1"

# Last, so that `benchmarks` is found, but the package only if it is installed.
sys.path.append(str(Path(__file__).parents[1]))

#: The Pythons from which on the extra `test` does not install the engine of these tests: Ray has no
#: wheel for 3.15, and CI's machines have no Java beside 3.14.
NOT_SINCE = {"batch/test_ray.py": (3, 15), "batch/test_spark.py": (3, 14)}
collect_ignore = [path for path, python in NOT_SINCE.items() if sys.version_info >= python]


def pytest_report_header() -> list[str]:
    return [
        f"tests/{path} is not run on this Python: see CONTRIBUTING.md" for path in collect_ignore
    ]


@pytest.fixture(autouse=True)
def no_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("BASE_URL", "DIALECT", "SECRET", "PASSWORD", "MODEL", "SITES", "API_KEY")
    for name in (*names, "SITE_SECRET", "SITE_PASSWORD"):
        monkeypatch.delenv(f"AICHATFREE_{name}", raising=False)
    monkeypatch.setenv("AICHATFREE_NO_HISTORY", "1")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def client_for() -> Iterator[ClientFor]:
    """Makes clients that are closed at the end of the test; they retry without waiting."""
    clients: list[Client] = []

    def make(url: Any = None, **settings: Any) -> Client:
        clients.append(Client(url, **{"retry": FAST, **settings}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """On CI a skipped test is a failure, and a file lists what failed, to be repeated."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if "CI" not in os.environ or reporter is None:
        return
    if reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    failed = [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())]
    listed = session.config.rootpath / ".pytest_cache" / "failed"
    listed.parent.mkdir(exist_ok=True)
    # pytest-xdist appends "@group" to the name of a test.
    names = (re.sub(r"@[^]@]+$", "", report.nodeid) for report in failed)
    listed.write_text("\n".join(names), encoding="utf-8")
