"""Workers that send requests to a limited server, as discrete events on a simulated clock."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

import tenacity

from aichatfree._adaptive_rate import AdaptiveRate

UPLINK = 0.02  # seconds until a request reaches the server
REJECTION = 0.05  # seconds until a rejection is back
REPLY = (0.15, 0.25)  # seconds until a reply is back, evenly spread
LATE_WAKE = 0.001  # seconds that a thread sleeps too long at most
ATTEMPTS = 5

Header = Callable[[float], float | None]  # true wait in seconds -> what Retry-After says


class Limit(Protocol):
    def admit(self, now: float) -> tuple[bool, float]: ...
    def allowed(self, seconds: float) -> float: ...


class Policy(Protocol):
    @property
    def sent(self) -> int: ...
    @property
    def slot(self) -> float: ...
    @property
    def rate(self) -> float: ...
    @property
    def exhausted(self) -> str | None: ...
    def record_sent(self, now: float, *, delayed: bool) -> int: ...
    def record_answer(self, number: int) -> None: ...
    def record_rejection(self, number: int, now: float, retry_after: float | None) -> None: ...
    def hold(self, attempt: int, retry_after: float | None) -> float: ...


class Adaptive(AdaptiveRate):
    """The rate limiter: a rejected request waits for its Retry-After, then for a slot."""

    def hold(self, attempt: int, retry_after: float | None) -> float:
        return retry_after or 0.0


class Backoff:
    """The usual recipe: a random exponential wait in each thread, which knows of no other."""

    slot = -math.inf
    rate = math.inf
    exhausted = None

    def __init__(self) -> None:
        self._wait = tenacity.wait_random_exponential(multiplier=1, max=60)
        self.sent = 0

    def record_sent(self, now: float, *, delayed: bool) -> int:
        self.sent += 1
        return self.sent

    def record_answer(self, number: int) -> None:
        pass

    def record_rejection(self, number: int, now: float, retry_after: float | None) -> None:
        pass

    def hold(self, attempt: int, retry_after: float | None) -> float:
        state: Any = SimpleNamespace(attempt_number=attempt)
        return self._wait(state)


@dataclass
class Client:
    """One process: workers that share a policy, and what became of their requests."""

    policy: Policy
    workers: int
    hold_threads: bool = True  # a held request occupies its thread
    accepted: int = 0
    given_up: int = 0
    rejected: list[float] = field(default_factory=list)  # when each rejection came back
    first_burst: int = 0  # rejections of what had left before the first one came back
    rates: list[tuple[float, float]] = field(default_factory=list)  # (time, requests/s)
    finished: float = 0.0
    line: deque[tuple[float, int]] = field(default_factory=deque)  # (arrived, attempt)
    due: list[int] = field(default_factory=list)  # attempts of held requests whose time has come
    burst_end: float = math.inf


def simulate(
    server: Limit,
    clients: Sequence[Client],
    seconds: float,
    header: Header,
    prompts: float = math.inf,
) -> None:
    """Run the clients against the server for `seconds`, or until `prompts` are used up."""
    rng = random.Random(1)
    random.seed(1)  # for tenacity, which draws from the shared generator
    events: list[tuple[float, int, Callable[[float], None]]] = []
    serial = 0

    def later(when: float, action: Callable[[float], None]) -> None:
        nonlocal serial
        serial += 1
        heapq.heappush(events, (when, serial, action))

    def depart(client: Client, now: float, late: float) -> None:
        nonlocal prompts
        arrived, attempt = client.line.popleft()
        if attempt == 1 and client.due:
            attempt = client.due.pop()
        elif attempt == 1:
            if prompts <= 0:
                return
            prompts -= 1
        leaves = now + late
        number = client.policy.record_sent(leaves, delayed=now > arrived)
        accepted, wait = server.admit(leaves + UPLINK)
        if accepted:
            client.accepted += 1
            later(leaves + rng.uniform(*REPLY) + wait, lambda now: answer(client, now, number))
        else:
            later(leaves + REJECTION, lambda now: reject(client, now, number, attempt, wait))
        rate = client.policy.rate
        if rate < math.inf and (not client.rates or now > client.rates[-1][0] + 0.5):
            client.rates.append((now, rate))

    def answer(client: Client, now: float, number: int) -> None:
        client.policy.record_answer(number)
        client.finished = now
        client.line.append((now, 1))

    def reject(client: Client, now: float, number: int, attempt: int, wait: float) -> None:
        client.rejected.append(now)
        if client.burst_end == math.inf:
            client.burst_end = client.policy.sent
        client.first_burst += number <= client.burst_end
        retry_after = header(wait)
        client.policy.record_rejection(number, now, retry_after)
        hold = client.policy.hold(attempt, retry_after)
        if attempt == ATTEMPTS:
            client.given_up += 1
            client.line.append((now, 1))
        elif not hold:
            client.line.append((now, attempt + 1))
        elif client.hold_threads:
            later(now + hold, lambda now: client.line.append((now, attempt + 1)))
        else:
            later(now + hold, lambda now: client.due.append(attempt + 1))
            client.line.append((now, 1))

    for client in clients:
        client.line.extend([(0.0, 1)] * client.workers)
    now = 0.0
    while True:
        departing, when = None, events[0][0] if events else math.inf
        for client in clients:
            if client.line and (slot := max(client.policy.slot, now)) < when:
                departing, when = client, slot
        if when >= seconds:
            return
        if departing:
            depart(departing, when, rng.random() * LATE_WAKE if when > now else 0.0)
        else:
            heapq.heappop(events)[2](when)
        now = when
