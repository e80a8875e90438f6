"""The questions of earlier conversations: a file that only its owner can read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

MAX_QUESTIONS: Final = 1000
"""Questions that are loaded. The file may hold twice as many before it is shortened."""

MAX_LENGTH: Final = 10_000
"""Characters; longer questions are not kept."""

_SECRET_VARIABLES: Final = ("PASSWORD", "SECRET", "KEY")


def open_history(secrets: Sequence[str] = ()) -> History | None:
    """The history in the user's directory for state, or ``None`` for a user without one."""
    directories = (os.environ.get("XDG_STATE_HOME", ""), os.path.expanduser("~/.local/state"))
    state = next(filter(os.path.isabs, directories), None)
    return (
        None if state is None else History(Path(state, "aichatfree", "chat_history.jsonl"), secrets)
    )


class History:
    """Questions in a file, which several sessions may append to at the same time.

    A line is a question as a JSON string, because a question may have several lines. A history that
    cannot be read or written is no reason to end a conversation: nothing is kept then.

    Args:
        path: of the file.
        secrets: no question with one of these is kept, nor with a password, a secret or a key of
            the variables whose names begin with ``AICHATFREE_``.
    """

    def __init__(self, path: Path, secrets: Sequence[str] = ()) -> None:
        self._path = path
        self._secrets = [*secrets, *_secrets()]

    def load(self) -> list[str]:
        """The last questions, the oldest first."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        if len(lines) > 2 * MAX_QUESTIONS:
            self._shorten(lines[-MAX_QUESTIONS:])
        return list(_questions(lines[-MAX_QUESTIONS:]))

    def add(self, question: str) -> None:
        """Append a question, unless it is very long or has a password or secret in it."""
        if len(question) > MAX_LENGTH or any(secret in question for secret in self._secrets):
            return
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._path, os.O_APPEND, [json.dumps(question)])

    def _shorten(self, lines: list[str]) -> None:
        temporary = self._path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            _write(temporary, os.O_TRUNC, lines)
            temporary.replace(self._path)


def _write(path: Path, mode: int, lines: list[str]) -> None:
    """Write lines at once into a file that only its owner can read."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | mode, 0o600)
    try:
        os.fchmod(file, 0o600)
        os.write(file, "".join(f"{line}\n" for line in lines).encode())
    finally:
        os.close(file)


def _questions(lines: list[str]) -> Iterator[str]:
    for line in lines:
        with suppress(ValueError):
            question = json.loads(line)
            if isinstance(question, str) and "\0" not in question:  # readline refuses NUL
                yield question


def _secrets() -> list[str]:
    """The passwords and secrets in the environment."""
    return [
        value
        for name, value in os.environ.items()
        if name.startswith("AICHATFREE_") and name.endswith(_SECRET_VARIABLES) and value
    ]
