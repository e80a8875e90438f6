"""What several tests use: clients, engines, commands and terminals."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import sysconfig
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aichatfree import Client, RetryPolicy
from aichatfree._protocol.messages import Message

ClientFor = Callable[..., Client]

#: Retries as usual, but without the waits.
FAST = RetryPolicy(initial_wait=0.01, max_wait=0.01, jitter=0)


COMMAND = [sys.executable, "-m", "aichatfree"]


def run(
    *arguments: str, url: str | None = None, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    settings = {f"AICHATFREE_{name}": value for name, value in environment.items()}
    if url is not None:
        settings["AICHATFREE_BASE_URL"] = url
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        env={**os.environ, **settings},
    )


def paste(line: str, *, url: str, folder: Path) -> None:
    """Run a line as it is pasted into a shell; of a server, see only that it starts."""
    (folder / "prompts.jsonl").write_text('{"prompt": "Name a colour."}\n')
    serving = " serve " in line
    if serving:
        line = f"exec {line.replace('--port 8000', '')} --port 0"  # whichever is free
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
                assert "Serving at http://127.0.0.1:" in process.stderr.readline()
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == (130 if serving else 0), (out, err)


class Terminal:
    """A command in a terminal of its own."""

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

    def wait_for(self, text: str, seconds: float = 20) -> str:
        """What was written up to the text, which is taken away."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} did not come; there is {self.seen!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._fd, 4096).decode()
                except OSError:  # Linux's way to say that the other side is closed
                    assert text in self.seen, self.seen
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def finish(self) -> int:
        return self.process.wait(20)

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
    session = Terminal(
        *arguments, url=url, command=command, columns=columns, environment=environment
    )
    try:
        yield session
    finally:
        session.close()


class Echo:
    """An engine that repeats the question."""

    def generate(
        self, messages: list[Message], *, temperature: float | None, cancelled: threading.Event
    ) -> Iterator[str]:
        yield messages[-1]["content"]

    def close(self) -> None:
        """There is nothing to close."""
