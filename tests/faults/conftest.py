"""Puts the checkout last on sys.path: ``benchmarks`` is found, the package only if installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
