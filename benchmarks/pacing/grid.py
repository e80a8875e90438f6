"""The cells of the study, what is asked of each, and the tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from benchmarks.pacing.servers import (
    GCRA,
    Both,
    FixedWindow,
    LimitReq,
    NoLimit,
    Quota,
    SlidingWindow,
    TokenBucket,
)
from benchmarks.pacing.simulation import REPLY, Adaptive, Backoff, Client, Header, Limit, simulate

SECONDS = 600.0
CHANGE_AT = 300.0
PROMPTS = 200

HEADERS: dict[str, Header] = {
    "none": lambda wait: None,
    "right": lambda wait: math.ceil(min(wait, 3600)),
    "wrong": lambda wait: 30.0,  # hard-coded on the server, whatever the true wait
}


@dataclass(frozen=True)
class Kind:
    """Cells with the same target."""

    title: str
    target: str
    min_used: float = 0.0
    max_rejected: float = math.inf  # for each accepted request
    max_rejections: float = math.inf
    configured: bool = False  # `min_used` is a share of what a configured limit would use


FAST = Kind(
    "bucket, GCRA, nginx; burst >= 3 s; from 5/s", "used >= .95, rejected <= 2 %", 0.95, 0.02
)
SMALL = Kind("the same, burst 1 s", "used >= 90 % of a configured limit", 0.9, configured=True)
SECOND = Kind("one-second windows", "used >= .93, rejected <= 3 %", 0.93, 0.03)
MINUTE = Kind("one-minute windows from 5/s", "used >= .92, rejected <= 5.5 %", 0.92, 0.055)
SLIDING = Kind("sliding minutes from 5/s", "used >= .92, rejected <= 5.5 %", 0.92, 0.055)
SLOW = Kind("up to 1/s", "used >= .92, <= 20 rejections", 0.92, max_rejections=20)
SLOW_SLIDING = Kind(
    "sliding minutes up to 1/s", "used >= .92, <= 20 rejections", 0.92, max_rejections=20
)
FREE_TIER = Kind("minutes of 3 to 15", "used >= .92, <= 20 rejections", 0.92, max_rejections=20)
HALVED = Kind("limit halved", "found again within 60 s")
DOUBLED = Kind("limit doubled", "found again within 60 s")
QUOTA = Kind("quota gone for good", "<= 30 more requests, user told", max_rejections=30)
SHARED = Kind("two clients on one limit", "each used >= .35", 0.35)
# 200 prompts of 200 ms, of which the initial window takes a quarter of a second.
FREE = Kind("no limit: 200 prompts, 32 threads", "used >= .85 of no rate limiter's speed", 0.85)


@dataclass(frozen=True)
class Cell:
    kind: Kind
    server: str
    rate: float
    burst: float
    threads: int
    clients: int = 1
    change: float = 1.0
    total: int = 0

    def limit(self) -> Limit:
        if self.kind is FREE:
            return NoLimit()
        if self.kind is QUOTA:
            bucket = TokenBucket(self.rate, self.burst) if self.rate else NoLimit()
            return Both(bucket, Quota(self.total))
        if self.change != 1:
            return TokenBucket(self.rate, self.burst, CHANGE_AT, self.change)
        makers: dict[str, Callable[[float, float], Limit]] = {
            "bucket": TokenBucket,
            "gcra": GCRA,
            "nginx": LimitReq,
            "window": FixedWindow,
            "sliding": SlidingWindow,
        }
        return makers[self.server](self.rate, self.burst)

    def __str__(self) -> str:
        rate = "no rate"
        if self.rate:
            rate = f"{self.rate * 60:g}/min" if self.rate < 1 else f"{self.rate:g}/s"
        extra = f" x{self.change:g}" if self.change != 1 else ""
        extra += f" quota {self.total}" if self.total else ""
        extra += f" {self.clients} clients" if self.clients > 1 else ""
        return f"{self.server:7} {rate:>7} {self.burst:3g} s {self.threads:3} thr{extra}"


@dataclass(frozen=True)
class Result:
    used: float
    rejected: float  # for each accepted request, without the first burst
    rejections: int  # the same, counted; after a quota was used up, if there is one
    all_rejected: float  # for each accepted request, with the first burst
    first_burst: int
    given_up: int
    found: float  # seconds until a changed limit was found
    told: bool  # the user was told that it is pointless to go on


@cache
def run(cell: Cell, policy: str, header: str, hold_threads: bool) -> Result:
    """Simulate a cell with a policy: "adaptive", "configured" (limit) or "backoff" (tenacity)."""
    policies: dict[str, Callable[[], Adaptive | Backoff]] = {
        "adaptive": Adaptive,
        "configured": lambda: Adaptive(cell.rate),
        "backoff": Backoff,
    }
    server = cell.limit()
    allowed = server.allowed(SECONDS)
    clients = [Client(policies[policy](), cell.threads, hold_threads) for _ in range(cell.clients)]
    prompts = PROMPTS if cell.kind is FREE else math.inf
    simulate(server, clients, SECONDS, HEADERS[header], prompts)
    if cell.kind is FREE:
        ideal = math.ceil(PROMPTS / cell.threads) * sum(REPLY) / 2
        used = min(1.0, ideal / clients[0].finished)
    else:
        busy = cell.threads * cell.clients / (sum(REPLY) / 2) * SECONDS
        used = min(c.accepted for c in clients) / min(allowed, busy)
    accepted = sum(c.accepted for c in clients)
    burst = sum(c.first_burst for c in clients)
    rejections = sum(len(c.rejected) for c in clients) - burst
    counted = rejections
    if isinstance(server, Both):  # what came before the quota was gone is none of its business
        gone = server.second.gone_at
        counted = sum(when > gone for c in clients for when in c.rejected)
        counted -= burst if clients[0].rejected[0] > gone else 0
    return Result(
        used,
        rejections / max(accepted, 1),
        counted,
        (rejections + burst) / max(accepted, 1),
        burst,
        sum(c.given_up for c in clients),
        found(cell, clients[0]),
        any(c.policy.exhausted for c in clients),
    )


def found(cell: Cell, client: Client) -> float:
    """Seconds after the change until the rate was within 10 % of the new limit or past it."""
    new = cell.rate * cell.change
    for when, rate in client.rates:
        if when > CHANGE_AT and (rate <= 1.1 * new if cell.change < 1 else rate >= 0.9 * new):
            return when - CHANGE_AT
    return math.inf


def misses(cell: Cell, result: Result, hold_threads: bool) -> list[str]:
    """By how much a result is short of its target; empty when it is not."""
    kind, short = cell.kind, []
    minimum = kind.min_used
    if kind.configured:
        minimum *= run(cell, "configured", "none", hold_threads).used
    if result.used < minimum:
        short.append(f"used -{minimum - result.used:.3f}")
    if result.rejected > kind.max_rejected:
        short.append(f"rejected +{result.rejected - kind.max_rejected:.1%}")
    if result.rejections > kind.max_rejections:
        short.append(f"+{result.rejections - kind.max_rejections:.0f} rejections")
    if kind in (HALVED, DOUBLED) and result.found > 60:
        short.append(f"found after {result.found:.0f} s")
    if kind is QUOTA and not result.told:
        short.append("user not told")
    return short


def cells(quick: bool) -> Iterator[Cell]:
    """Cells whose threads could send a quarter more than the limit allows, so that it matters."""
    rates = (0.2, 5, 30) if quick else (0.2, 1, 5, 30, 200, 1000)
    bursts = (1, 3) if quick else (1, 3, 10)
    threads = (8, 32) if quick else (1, 8, 32, 256)

    def limited(rate: float) -> list[int]:
        return [n for n in threads if n / (sum(REPLY) / 2) >= 1.25 * rate]

    yield Cell(FREE, "none", 0, 0, 32)
    for per_minute in (3, 15) if quick else (3, 5, 10, 15):
        for count in threads:
            for server in ("window", "sliding"):
                yield Cell(FREE_TIER, server, per_minute / 60, 60, count)
    for rate in rates:
        for count in limited(rate):
            for burst in (1, 10) if rate <= 1 else bursts:
                kind = SLOW if rate <= 1 else SMALL if burst < 3 else FAST
                for server in ("bucket", "gcra", "nginx"):
                    # One thread behind a queue that delays it is never rejected.
                    if server == "nginx" and count == 1:
                        continue
                    if rate < 200 or (server == "bucket" and (rate < 1000 or burst == 10)):
                        yield Cell(kind, server, rate, burst, count)
            if rate >= 1000:
                continue
            if rate > 1:
                yield Cell(SECOND, "window", rate, 1, count)
            yield Cell(SLOW if rate <= 1 else MINUTE, "window", rate, 60, count)
            yield Cell(SLOW_SLIDING if rate <= 1 else SLIDING, "sliding", rate, 60, count)
    for rate in (5, 30) if quick else (5, 30, 100):
        for count in limited(2 * rate):
            for burst in bursts:
                yield Cell(HALVED, "bucket", rate, burst, count, change=0.5)
                yield Cell(DOUBLED, "bucket", rate, burst, count, change=2)
                yield Cell(SHARED, "bucket", rate, burst, count, clients=2)
    for count in threads:
        yield Cell(QUOTA, "quota", 0, 0, count, total=500)
        if count / 0.2 > 25:
            yield Cell(QUOTA, "bucket", 20, 3, count, total=1000)


def report(quick: bool, hold_threads: bool) -> None:
    """Print a row for each cell and header, then a summary for each kind."""
    grid = list(cells(quick))
    print("used: share of the allowed; rej: rejections for each accepted request without the first")
    print("burst (1st); gave up: requests rejected five times; T: tenacity's usual recipe\n")
    print(f"{'cell':44} {'Retry-A.':8} {'used':>5} {'rej':>6} {'1st':>4} {'gave up':>7}", end="")
    print(f"  {'verdict':28} {'T used':>6} {'T rej':>7} {'T gave up':>9}")
    outcomes: dict[Kind, list[tuple[Result, Result, bool]]] = {}
    for cell in grid:
        peer = run(cell, "backoff", "none", True)
        for header in HEADERS if cell.kind is not FREE else ("none",):
            result = run(cell, "adaptive", header, hold_threads)
            short = misses(cell, result, hold_threads)
            outcomes.setdefault(cell.kind, []).append((result, peer, not short))
            changed = cell.kind in (HALVED, DOUBLED)
            verdict = f"PASS, found in {result.found:.0f} s" if changed else "PASS"
            print(f"{cell!s:44} {header:8} {result.used:5.3f} {result.rejected:6.1%}", end="")
            print(f" {result.first_burst:4} {result.given_up:7}", end="")
            print(f"  {', '.join(short) or verdict:28} {peer.used:6.3f} ", end="")
            print(f"{peer.all_rejected:7.1%} {peer.given_up:9}")
    summary(outcomes)


def summary(outcomes: dict[Kind, list[tuple[Result, Result, bool]]]) -> None:
    print(
        f"\n{'kind':46} {'target':40} {'pass':>9} {'used':>11} {'rejected':>12} {'gave up':>7}",
        end="",
    )
    print(f"  {'T used':>6} {'T rejected':>10} {'T gave up':>9}")
    print(f"{'':46} {'':40} {'':9} {'med':>5} {'min':>5} {'med':>5} {'max':>6}")
    for kind, rows in outcomes.items():
        ours = [row[0] for row in rows]
        peers = [row[1] for row in rows]
        passed = f"{sum(row[2] for row in rows)}/{len(rows)}"
        used = [result.used for result in ours]
        rejected = [result.rejected for result in ours]
        print(f"{kind.title:46} {kind.target:40} {passed:>9}", end="")
        print(f" {statistics.median(used):5.3f} {min(used):5.3f}", end="")
        print(f" {statistics.median(rejected):5.1%} {max(rejected):6.1%}", end="")
        print(f" {sum(r.given_up for r in ours):7}", end="")
        print(f"  {statistics.median(r.used for r in peers):6.3f}", end="")
        print(f" {statistics.median(r.all_rejected for r in peers):10.1%}", end="")
        print(f" {sum(r.given_up for r in peers):9}")
