"""Makes the checkout's benchmarks importable, after the package as it is installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
