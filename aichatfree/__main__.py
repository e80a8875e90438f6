"""The entry point of the command line."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C during its imports ends it without a traceback, too."""
    try:
        from ._cli.main import run

        sys.exit(run())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
