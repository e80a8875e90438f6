"""Where the command line begins; what it needs is imported where Ctrl-C is already understood."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from ._cli.commands import run

        sys.exit(run())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
