"""What commands print."""

from __future__ import annotations

import sys


def tell(message: str) -> None:
    """Print a line of the answer."""
    print(message)  # noqa: T201 - the command line's own output


def fail(message: str) -> int:
    """Print what is wrong, and return the exit status of that."""
    print(message, file=sys.stderr)  # noqa: T201 - the command line's own output
    return 1
