"""python -m benchmarks.pacing [--quick] [--hold-threads] [--live]"""

from __future__ import annotations

import argparse
import time

from benchmarks.pacing import grid, live


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=grid.__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a small grid, or 10 s for each live cell"
    )
    parser.add_argument(
        "--hold-threads",
        action="store_true",
        help="a request that waits for its Retry-After occupies a thread, as in plain threads; a "
        "batch holds the prompt instead",
    )
    parser.add_argument(
        "--live", action="store_true", help="the client on a real socket, 60 s a cell"
    )
    options = parser.parse_args()
    started = time.perf_counter()
    if options.live:
        live.report(seconds=10.0 if options.quick else 60.0)
    else:
        grid.report(options.quick, hold_threads=options.hold_threads)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
