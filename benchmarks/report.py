"""What was measured, as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.work import WORKS, Metric

PACKAGES = ("requests", "urllib3", "tenacity", "aiohttp", "httpx", "ollama", "openai")
COLUMNS = 3


@dataclass
class Outcome:
    """One kind of work.

    Attributes:
        rounds: the figures of each client in each round, by the key of their metric.
        failures: why a client has no figures of a part.
    """

    work: str
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def figures(self, client: str, key: str) -> list[float]:
        return [each[client][key] for each in self.rounds if key in each.get(client, {})]

    def has(self, client: str) -> bool:
        """Whether there is any figure of this client."""
        return any(each.get(client) for each in self.rounds)

    def ratios(self, one: str, other: str, key: str) -> list[float]:
        """One client's figure over another's, round by round."""
        floor = WORKS[self.work].metrics[key].beyond
        ratios = []
        for each in self.rounds:
            if all(key in each.get(client, {}) for client in (one, other, floor or one)):
                off = each[floor][key] if floor else 0.0
                above, below = each[one][key] - off, each[other][key] - off
                if below > 0:
                    ratios.append(above / below)
        return ratios

    @property
    def clients(self) -> list[str]:
        return [name for name in WORKS[self.work].clients if any(name in r for r in self.rounds)]


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The quartiles."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, method="inclusive")
    return low, high


# --- table ------------------------------------------------------------------------------------


def table(outcome: Outcome) -> str:
    """For each client its median, and of ours over it the median (spread) and the target."""
    work = WORKS[outcome.work]
    lines = [f"\n--- {outcome.work}: {work.title} ({len(outcome.rounds)} rounds)"]
    keys = [key for key in work.metrics if outcome.figures("ours", key)]
    for at in range(0, len(keys), COLUMNS):
        lines += block(outcome, keys[at : at + COLUMNS])
    lines += failed(outcome)
    return "\n".join(lines)


def failed(outcome: Outcome) -> Iterator[str]:
    for client, failures in outcome.failures.items():
        for reason in dict.fromkeys(failures.values()):
            parts = ", ".join(part for part, why in failures.items() if why == reason)
            where = f" ({parts})" if outcome.has(client) else ""
            yield f"{client} failed{where}: {reason}"
    if "ModuleNotFoundError" in str(outcome.failures):
        yield 'pip install "aichatfree[bench]" brings what is not there'


def block(outcome: Outcome, keys: Sequence[str]) -> Iterator[str]:
    metrics = WORKS[outcome.work].metrics
    rows = [["", *(f"{metrics[key].title}: ours/it" for key in keys)]]
    for client in outcome.clients:
        rows.append([client, *(cell(outcome, client, key) for key in keys)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "   ".join(map(str.ljust, row, widths)).rstrip()


def cell(outcome: Outcome, client: str, key: str) -> str:
    figures = outcome.figures(client, key)
    if not figures:
        return f"{'-':>7}"
    ratios = outcome.ratios("ours", client, key)
    text = f"{number(statistics.median(figures)):>7}"
    if client == "ours" or not ratios:
        return text
    ratio = statistics.median(ratios)
    low, high = spread(ratios)
    text += f"  {ratio:.2f} ({low:.2f}-{high:.2f})"
    target = WORKS[outcome.work].metrics[key].targets.get(client)
    if target is None:
        return text
    return f"{text}  {target}  {'met' if target.is_met(ratio) else 'MISSED'}"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# --- JSON -------------------------------------------------------------------------------------


def write_json(outcomes: Sequence[Outcome], path: Path, *, quick: bool) -> None:
    value = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
        "quick": quick,
        "works": {outcome.work: as_dict(outcome) for outcome in outcomes},
    }
    path.write_text(json.dumps(value, indent=1) + "\n")


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def as_dict(outcome: Outcome) -> dict[str, Any]:
    work = WORKS[outcome.work]
    metrics = {
        key: {
            "title": metric.title,
            "clients": {c: client_as_dict(outcome, c, key, metric) for c in outcome.clients},
        }
        for key, metric in work.metrics.items()
    }
    return {"title": work.title, "metrics": metrics, "failures": outcome.failures}


def client_as_dict(outcome: Outcome, client: str, key: str, metric: Metric) -> dict[str, Any]:
    figures = outcome.figures(client, key)
    value: dict[str, Any] = {"figures": figures}
    if figures:
        value["median"] = statistics.median(figures)
    ratios = outcome.ratios("ours", client, key)
    if ratios and client != "ours":
        ratio = statistics.median(ratios)
        value["ours_over_it"] = {"median": ratio, "quartiles": spread(ratios)}
        if target := metric.targets.get(client):
            value["target"] = {"ratio": str(target), "met": target.is_met(ratio)}
    return value


# --- picture ----------------------------------------------------------------------------------


def draw(outcomes: Sequence[Outcome], path: Path) -> str:
    """Draw the CPU of a request for each client over that for the requests loop."""
    outcome = next((each for each in outcomes if each.work == "cpu"), None)
    if outcome is None or not outcome.figures("requests", "10"):
        return "no picture: it needs the work cpu, of requests"
    try:
        import matplotlib
    except ImportError:
        return 'no picture: pip install "aichatfree[bench]" brings matplotlib'
    matplotlib.use("agg")
    ratios = {client: outcome.ratios(client, "requests", "10") for client in outcome.clients}
    draw_bars({client: found for client, found in ratios.items() if found}, path)
    return f"{path.name} has the picture"


def draw_bars(ratios: dict[str, list[float]], path: Path) -> None:
    from matplotlib import pyplot

    clients = sorted(ratios, key=lambda client: -statistics.median(ratios[client]))
    medians = [statistics.median(ratios[client]) for client in clients]
    ends = [spread(ratios[client]) for client in clients]
    whiskers = [
        [median - low for median, (low, _) in zip(medians, ends, strict=True)],
        [high - median for median, (_, high) in zip(medians, ends, strict=True)],
    ]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(clients) + 1.4), layout="constrained")
    colours = ["tab:blue" if client == "ours" else "lightgrey" for client in clients]
    axes.barh(clients, medians, xerr=whiskers, color=colours, ecolor="grey")
    for row, (median, (_, high)) in enumerate(zip(medians, ends, strict=True)):
        axes.annotate(f"{median:.2f}", (high, row), (5, 0), textcoords="offset points", va="center")
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("CPU of the client for a request of 10 chunks")
    axes.set_xlabel("over a plain requests loop: median and quartiles; less is better")
    figure.savefig(path, dpi=120)
