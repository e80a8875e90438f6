"""What several test modules share. Look here before writing a tool of your own.

Times, in seconds, stretched on CI: `SHORT`, `AT_ONCE`, `LONG`, `HANG`.
Waiting: `wait_until` for a condition, `threads_named` for the threads that are alive, `Clock` for a
rate limiter on simulated time.
Sites and clients: `UNREACHABLE`, `echo`, `FAST` retries, `ClientFor` (the type of `client_for`).
The protocol, written independently of the package: `signature`, `is_signed`, `signed_body`.
Engines of a gateway: `Echo`.
A proxy in front of a site has a module of its own, `nginx_proxy`.
Other processes: `run_python` for a script, `run` for the command line, `terminal` for the command
line in a pseudo-terminal, `paste` for a line of the documentation in a shell,
`forks_beside_threads` to mark a test that forks.
The documentation: `PAGES`, and the fenced `blocks` of a page.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import sysconfig
import termios
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aichatfree import GEMINI, Client, Dialect, Message, RetryPolicy
from aichatfree.gateway import Engine
from aichatfree.testing import Request

# Tests use times for four purposes, each of which has its own constant. The machines of CI are slow
# and shared, so the times are longer there.
_STRETCH = 3 if os.environ.get("CI") else 1

#: A pause after which another thread or process has surely reached the point where it waits. Also a
#: timeout that is meant to expire.
SHORT = 0.2 * _STRETCH

#: The mark of a test that forks while its own site or other threads of it run, which Python warns
#: about. The package itself leaves no thread behind.
forks_beside_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

#: The most that something may take that waits for nothing, such as the end of a call after it was
#: cancelled. Most of it is margin for a busy machine.
AT_ONCE = 2.0 * _STRETCH

#: The longest wait for something that ought to happen, so that a defect fails the test.
LONG = 30.0 * _STRETCH

#: A silence of a site that is longer than all of these: a call that ends before it was interrupted.
HANG = 100.0


class Clock:
    """A clock that only advances when a thread waits for it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits = 0

    def __call__(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> None:
        self.waits += 1
        self.now += seconds


def wait_until(condition: Callable[[], object], timeout: float = LONG) -> None:
    """Return once the condition is true; fail if it is still false after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"still false after {timeout} s"
        time.sleep(0.005)


def threads_named(prefix: str) -> list[str]:
    """The names of the live threads of this process whose names start with the prefix."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


# --- sites and clients ------------------------------------------------------------------------

#: A URL where connections are refused: nothing listens on this port, which only root could open.
UNREACHABLE = "http://127.0.0.1:1"

#: The default retries, without their waits.
FAST = RetryPolicy(initial_wait=0.01, max_wait=0.01, jitter=0)

ClientFor = Callable[..., Client]


def echo(request: Request) -> str:
    """A site's script that answers each prompt with the prompt itself, after the word "echo"."""
    return f"echo {request.text}"


class Echo(Engine):
    """An engine that answers with the text of the last message."""

    def generate(self, messages: list[Message], **options: Any) -> Iterator[str]:
        yield messages[-1]["content"]


# --- the protocol -----------------------------------------------------------------------------


def signature(moment: object, text: str, secret: str = "") -> str:
    """The signature of a request, as the protocol defines it."""
    return hashlib.sha256(f"{moment}:{text}:{secret}".encode()).hexdigest()


def is_signed(request: Request, secret: str = "") -> bool:
    """Whether the request that a site received has the right signature."""
    body = request.json
    return bool(body["sign"] == signature(body["time"], request.text, secret))


def signed_body(
    text: str = "Hello",
    dialect: Dialect = GEMINI,
    *,
    secret: str = "",
    password: str | None = None,
    **fields: Any,
) -> bytes:
    """The body of a request with one message; ``fields`` replace or extend the signed ones."""
    moment = int(time.time() * 1000)
    body: dict[str, Any] = {
        "messages": dialect.encode([{"role": "user", "content": text}]),
        "model": "gemini-1.5-pro",
        "time": moment,
        "pass": password,
        "sign": signature(moment, text, secret),
    }
    return json.dumps(body | fields).encode()


# --- other processes --------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "aichatfree"]


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script, which may be indented, in another interpreter."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


def run(
    *arguments: str, url: str | None = None, stdin: bytes = b"", **settings: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line with settings from the environment, such as ``SECRET="s"``."""
    environment = {f"AICHATFREE_{name}": value for name, value in settings.items()}
    if url is not None:
        environment["AICHATFREE_BASE_URL"] = url
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        timeout=LONG,
        check=False,
        env={**os.environ, **environment},
    )


FILES = {
    "prompts.jsonl": '{"prompt": "Name a colour."}\n',
    "reviews.csv": "id,review\n7,Very good.\n",
    "answers.jsonl": "",
}
"""What the commands of the documentation read."""


def paste(line: str, *, url: str, folder: Path) -> None:
    """Run a line as a user pastes it into a shell, and check that it succeeds.

    A server is stopped as soon as it serves, and the requests of curl are sent to `url`. The line
    finds the ``FILES``.
    """
    for name, text in FILES.items():
        if not (folder / name).exists():
            (folder / name).write_text(text)
    serving = " serve " in line and "--help" not in line
    if serving:  # on any free port, for which 0 stands
        line = f"exec env {re.sub(r' --port [0-9]+', '', line)} --port 0"
        line = line.replace("http://127.0.0.1:11434", url)  # Ollama
    elif line.startswith("curl "):
        line = line.replace("http://127.0.0.1:8000", url)  # aichatfree serve
    scripts = sysconfig.get_path("scripts")
    with subprocess.Popen(
        line,
        shell=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "AICHATFREE_BASE_URL": url,
            "LLM_USER_PATH": str(folder),
            "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        },
    ) as process:
        try:
            if serving:
                assert process.stderr is not None
                assert "Serving at http://" in process.stderr.readline()
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=3 * LONG)  # a model may have to be loaded
        finally:
            process.kill()
    assert process.returncode == (130 if serving else 0), (line, out, err)


# --- the documentation ------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent

#: The Markdown files that users read, by their paths in the repository.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its tag, its lines, where it is, and the comment above it."""

    tag: str
    text: str
    line: int
    comment: str

    def marker(self, name: str) -> str | None:
        """The value of a comment such as ``<!-- not run: why -->``, if it is the one above it."""
        found = re.fullmatch(rf"<!-- {name}: (.+) -->", self.comment)
        return found and found[1]


_FENCE = re.compile(
    r"(?:^ *(?P<comment><!--[^\n]*-->)\n)?"
    r"^ *(?P<ticks>```+)(?P<tag>[^`\n]*)\n(?P<text>.*?)^ *(?P=ticks) *$",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page."""
    return [
        Block(
            tag=fence["tag"].strip(),
            text=textwrap.dedent(fence["text"]),
            line=page.count("\n", 0, fence.start("text")) + 1,
            comment=fence["comment"] or "",
        )
        for fence in _FENCE.finditer(page)
    ]


class Terminal:
    """The command line in a pseudo-terminal; `terminal` makes one and closes it."""

    def __init__(
        self,
        *arguments: str,
        url: str,
        command: list[str],
        columns: int = 100,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._fd = main
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            env={**os.environ, "AICHATFREE_BASE_URL": url, "TERM": "dumb", **(environment or {})},
            preexec_fn=lambda: os.set_inheritable(side, True),
        )
        os.close(side)
        self.seen = ""

    def wait_for(self, text: str, seconds: float = LONG) -> str:
        """Return what was written before the text, and forget it and the text."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} was not written, but {self.seen!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._fd, 4096).decode()
                except OSError:  # how Linux says that the other side is closed
                    assert text in self.seen, self.seen
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def finish(self) -> int:
        """Wait for the end of the command and return its exit code."""
        return self.process.wait(LONG)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)


@contextmanager
def terminal(
    *arguments: str,
    url: str,
    command: list[str] = COMMAND,
    columns: int = 100,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """Run the command line in a pseudo-terminal until the end of the block."""
    session = Terminal(
        *arguments, url=url, command=command, columns=columns, environment=environment
    )
    try:
        yield session
    finally:
        session.close()
