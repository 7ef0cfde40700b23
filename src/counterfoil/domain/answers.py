"""What another service answered, read leniently: v1.1 bodies, v2 bodies, and the facts that we show of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Never

from msgspec import Struct

ANSWER_BYTES_MAX: Final = 256 * 1024
MESSAGE_MAX: Final = 500
# In the order and spelling of the contract's samples; nothing else of an answer's headers is kept.
SHOWN_HEADERS: Final = (
    "Date", "Content-Type", "Content-Length", "Transfer-Encoding", "Connection", "X-Application-Context", "Host",
    "uri_path", "org_id", "status_code", "success", "fail", "line_items_count", "X-CAP-REQUEST-ID", "till",
    "X-Cap-RequestID", "X-Frame-Options", "Server",
)  # fmt: skip
_SHOWN: Final = tuple((name, name.lower()) for name in SHOWN_HEADERS)
_NUMBER = re.compile(r"-?[0-9]{1,9}(\.0+)?", re.ASCII)


class Finding(Struct, frozen=True):
    """What a body says. `success` is None where it says neither yes nor no."""

    success: bool | None = None
    code: int | None = None
    message: str = ""
    partial: bool = False


UNREADABLE: Final = object()


def _refuse_constant(text: str) -> Never:
    raise ValueError(f"{text} is not JSON")


_read: Final = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant).decode


def read_body(body: bytes) -> Any:
    """The JSON of a body with exact numbers, or UNREADABLE."""
    try:
        text = body.decode("utf-8-sig")
        content = _read(text)
        if "\\u" in text:
            json.dumps(content, default=str, ensure_ascii=False).encode()  # half a surrogate cannot be shown again
    except (ValueError, RecursionError, ArithmeticError):
        return UNREADABLE
    return content


def read_code(value: object) -> int | None:
    """A code as int, digits in a string, or a double without fraction: all three are answered."""
    match value:
        case bool():
            return None
        case int() if abs(value) < 10**9:
            return value
        case Decimal() if value.is_finite() and abs(value) < 10**9 and value == value.to_integral_value():
            return int(value)
        case str() if _NUMBER.fullmatch(value.strip()):
            return int(value.strip().partition(".")[0])
    return None


def read_flag(value: object) -> bool | None:
    """A success flag as boolean or as "true" / "false" in any case."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def plain_text(text: str) -> str:
    """Text of another service, bounded, without what could break a line, a log or a column."""
    text = text[:MESSAGE_MAX]
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def _message(value: object) -> str:
    return plain_text(value) if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def find_code(content: object, family: str) -> Finding:
    """Success, code and message of a body of this family ("v1.1" or "v2")."""
    if content is UNREADABLE or not isinstance(content, Mapping):
        return Finding(message="the answer is not a JSON object")
    return _find_v1(content) if family == "v1.1" else _find_v2(content)


def _find_v1(content: Mapping[str, Any]) -> Finding:
    """The item's status decides; the request's own only where it has no item (401 comes with success "true")."""
    response = _mapping(content.get("response"))
    status = _mapping(response.get("status"))
    whole, code = read_flag(status.get("success")), read_code(status.get("code"))
    points = _mapping(response.get("responses")).get("points")
    items = points if isinstance(points, list) else [points]
    item = _mapping(_mapping(items[0]).get("item_status")) if len(items) == 1 else {}
    if not item:
        message = _message(status.get("message")) or "the answer has no item_status"
        if code is not None and 300 <= code < 600 and code != 500:
            return Finding(success=False, code=code, message=message)
        return Finding(None, code, message)
    success, item_code = read_flag(item.get("success")), read_code(item.get("code"))
    if success and whole is False:
        return Finding(None, item_code, "the answer contradicts itself: the item succeeded, the request did not")
    return Finding(success, item_code, _message(item.get("message")))


def _find_v2(content: Mapping[str, Any]) -> Finding:
    """No errors is success, if it is an answer of these APIs at all."""
    errors = content.get("errors")
    if errors:
        first = _mapping(errors[0] if isinstance(errors, list) else errors)
        data = _mapping(content.get("data"))
        done = any(isinstance(value, list) and value for value in data.values())
        return Finding(
            success=False, code=read_code(first.get("code")), message=_message(first.get("message")), partial=done
        )
    if not {"createdId", "warnings", "errors", "data"} & content.keys():
        return Finding(message="the answer is not one of this API")
    return Finding(success=True)


def shown_headers(headers: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The header map of `IntouchAPITask_Output`: the contract's names with the values that came."""
    came: dict[str, list[str]] = {}
    for name, value in headers:
        came.setdefault(name.lower(), []).append(value)
    return {name: came[lower] for name, lower in _SHOWN if lower in came}


def shown_body(body: bytes) -> Any:
    """A body as it came, or as text where it is no JSON."""
    content = read_body(body)
    if content is UNREADABLE:
        return body.decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return content
