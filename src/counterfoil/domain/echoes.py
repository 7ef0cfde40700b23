"""An answer may repeat the credential that it was asked with: what is kept and shown of it does not."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from counterfoil.domain.attempts import Reply
from counterfoil.domain.payloads import PLAIN_HEADERS, WITHHELD

SECRET_LENGTH_MIN: Final = 8
_SCHEME = re.compile(r"[A-Za-z]+ +")


def without_secrets(reply: Reply, sent: Sequence[tuple[str, str]]) -> Reply:
    """The answer with every secret of the headers that were sent withheld, in its body and in its headers."""
    secrets = sorted({each for header in sent for each in _secrets_of(*header)}, key=len, reverse=True)
    body, headers = reply.body, reply.headers
    for secret in secrets:
        for form in {secret, secret.replace("/", "\\/"), secret.replace('"', '\\"')}:
            body = body.replace(form.encode(), WITHHELD.encode())
        headers = tuple((name, value.replace(secret, WITHHELD)) for name, value in headers)
    return reply if (body, headers) == (reply.body, reply.headers) else replace(reply, body=body, headers=headers)


def _secrets_of(name: str, value: str) -> Iterator[str]:
    """A secret header's value, without its scheme, and the password inside of it."""
    if name.lower() in PLAIN_HEADERS:
        return
    bare = _SCHEME.sub("", value, count=1)
    password = ""
    if value.lower().startswith("basic "):
        try:
            password = b64decode(bare, validate=True).decode().partition(":")[2]
        except ValueError:
            password = ""
    # What is short, a number or a word stands in any answer by chance, and the answer must stay readable.
    yield from (
        each
        for each in (value, bare, password)
        if len(each) >= SECRET_LENGTH_MIN and not each.isdigit() and not each.isalpha()
    )
