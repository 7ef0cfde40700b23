"""What commands print."""

from __future__ import annotations

import sys

from rich.console import Console


def console() -> Console:
    """Where lines with colours go: not wrapped, and coloured only by us."""
    return Console(highlight=False, soft_wrap=True)


def tell(message: str) -> None:
    """Print a line of the answer."""
    print(message)  # noqa: T201 - the command line's own output


def fail(message: str) -> int:
    """Print what is wrong, and return the exit status of that."""
    print(message, file=sys.stderr)  # noqa: T201 - the command line's own output
    return 1
