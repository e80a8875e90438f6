"""This package beside its peers: ``python -m benchmarks [WORK ...] [--clients A,B] [--quick]``.

Three sites run in their own processes: one that answers at once, one that takes 200 ms, and one
that answers as a model does. Each client has a fresh process for each workload; they run one at a
time, in many rounds, and a ratio compares two figures of the same round. Figures are the client's
CPU time wherever that is the question: other work on the machine then disturbs little, and ratios
less.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import report
from benchmarks.clients import CLIENTS
from benchmarks.live_site import live_site
from benchmarks.raw_site import raw_site
from benchmarks.report import Outcome
from benchmarks.wire import answers
from benchmarks.work import SLOW, WORKS, Circumstances, run_workload

TIME_LIMIT = 45  # seconds for one turn


class Runner:
    """A client's process for one work; started again after a round that took too long."""

    def __init__(self, work: str, client: str, given: Circumstances) -> None:
        self._arguments = (work, client, given)
        self._start()

    def _start(self) -> None:
        self._channel, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=run_workload, args=(*self._arguments, there)
        )
        self._process.start()
        there.close()

    def turn(self, part: str) -> dict[str, float] | str:
        """The figures of a turn at this part, or why there are none."""
        try:
            self._channel.send(part)
            if self._channel.poll(TIME_LIMIT):
                figures: dict[str, float] | str = self._channel.recv()
                return figures
            failure = f"not done after {TIME_LIMIT} s"
        except (EOFError, OSError):
            failure = "its process ended"
        self.stop()
        self._start()
        return failure

    def stop(self) -> None:
        self._channel.close()
        self._process.join(1)
        if self._process.is_alive():
            assert self._process.pid is not None
            with suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
        self._process.join()


@contextmanager
def running(work: str, clients: Sequence[str], given: Circumstances) -> Iterator[dict[str, Runner]]:
    """All at once, so that they import what they need at the same time."""
    runners = {client: Runner(work, client, given) for client in clients}
    try:
        yield runners
    finally:
        for runner in runners.values():
            runner.stop()


def measure(name: str, chosen: Sequence[str], given: Circumstances) -> Outcome:
    """Run one workload with all clients; one that fails at a part is not measured there again."""
    work = WORKS[name]
    unasked = {"ours", *(metric.beyond for metric in work.metrics.values())}
    unasked |= set(work.clients) - set(CLIENTS)
    clients = [client for client in work.clients if client in {*chosen, *unasked}]
    outcome = Outcome(name)
    for _ in range(1 if given.quick else work.starts):
        with running(name, clients, given) as runners:
            for _ in range(max(1, work.rounds // 3) if given.quick else work.rounds):
                take_round(outcome, work.parts_of(quick=given.quick), runners)
    return outcome


def take_round(outcome: Outcome, parts: Sequence[str], runners: dict[str, Runner]) -> None:
    figures: dict[str, dict[str, float]] = {client: {} for client in runners}
    for part in parts:
        for client, runner in runners.items():
            if part in outcome.failures.get(client, {}):
                continue
            told = runner.turn(part)
            if isinstance(told, str):
                outcome.failures.setdefault(client, {})[part] = told
            else:
                figures[client].update(told)
    outcome.rounds.append(figures)


def names(chosen: str) -> list[str]:
    clients = chosen.split(",")
    unknown = set(clients) - set(CLIENTS)
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}"
        )
    return clients


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("work", nargs="*", help=f"any of {', '.join(WORKS)}; all of them")
    parser.add_argument(
        "--clients", type=names, default=list(CLIENTS), help=f"some of {','.join(CLIENTS)}"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, in a minute")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        default=Path(__file__).parent / "results",
        help="where results.json and results.png go (benchmarks/results)",
    )
    options = parser.parse_args()
    if unknown := set(options.work) - set(WORKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    began = time.perf_counter()
    wire = answers(1, 10, 100, 25_000, 100_000)
    outcomes = []
    with (
        raw_site(answers=wire) as site,
        raw_site(answers=wire, delay=SLOW) as slow_site,
        live_site() as live,
    ):
        given = Circumstances(site, slow_site, live, options.quick)
        for name in options.work or WORKS:
            outcomes.append(measure(name, options.clients, given))
            print(report.table(outcomes[-1]), flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    report.write_json(outcomes, options.output / "results.json", quick=options.quick)
    print(f"\n{report.draw(outcomes, options.output / 'results.png')}")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
