"""Loads the named blocks of the .sql files: `-- name: x`, its comment, the statement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_BLOCK = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file_name: str) -> Mapping[str, str]:
    """The statements of one .sql file beside this module, by name."""
    text = (files("counterfoil.storage") / file_name).read_text(encoding="utf-8")
    parts = _BLOCK.split(text)
    return MappingProxyType({name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)})
