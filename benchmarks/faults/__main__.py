"""What clients say of every fault: ``python -m benchmarks.faults [--markdown]``.

From a checkout, with ``pip install ".[test,bench]"``. Each case of ``tests/faults/cases.py`` is a
site on the loopback interface; all clients ask it at once, each in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec

from benchmarks.faults.clients import CLIENTS, Client
from benchmarks.faults.judge import Outcome, judge
from benchmarks.faults.processes import ClientProcess, Question
from benchmarks.faults.report import Row, report
from tests.faults.case import FAULT, WELL, Case, Place, serving
from tests.faults.cases import CASES


def question(case: Case, place: Place) -> Question:
    settings = {**case.settings, **case.settings.get("timeouts", {})}
    settings.pop("timeouts", None)
    return Question(FAULT, place.url, place.proxy, **settings)


def run(clients: Sequence[Client], cases: Sequence[Case]) -> Iterator[Row]:
    """What all the clients make of each case."""
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        processes = [stack.enter_context(ClientProcess(client.ask)) for client in clients]
        for case in cases:
            with case.open() as place:
                asked = question(case, place)
                all_seen = list(pool.map(lambda process, q=asked: process.ask(q), processes))
            yield Row(case.name, case.undetectable, [judge(case, seen) for seen in all_seen])


def check(clients: Sequence[Client]) -> None:
    """A client that cannot ask at all would seem to be right about most faults."""
    (row,) = run(clients, [Case("no fault", serving(WELL), text=WELL)])
    for client, outcome in zip(clients, row.outcomes, strict=True):
        if outcome is not Outcome.TRUE:
            raise SystemExit(f"{client.name} fails without a fault: {outcome.value}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    options = parser.parse_args()
    began = time.monotonic()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    present = [client for client in CLIENTS if find_spec(client.package)]
    check(present)
    rows = list(run(present, CASES))
    print("\n".join(report([client.name for client in present], rows, options.markdown)))
    packages = dict.fromkeys(client.package for client in present)
    used = ", ".join(f"{package} {version(package)}" for package in packages)
    print(f"\nPython {platform.python_version()}, {used}; {time.monotonic() - began:.0f} s")
    for client in CLIENTS:
        if client not in present:
            print(f"Absent: {client.name}, since {client.package} is not installed")


if __name__ == "__main__":
    main()
