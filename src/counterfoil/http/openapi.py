"""The API's description, OpenAPI 3.1, and a page to read it on: both made from the table of endpoints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from typing import Any, Final

import msgspec

from counterfoil.domain import refusals
from counterfoil.domain.refusals import Refusal
from counterfoil.http import described_calls, problems
from counterfoil.http.routing import Answer, Call, Context, Endpoint, Handler, Parameter

JSON: Final = "application/json"
HTML: Final = b"text/html; charset=utf-8"
_CORRELATION: Final = {
    "X-CAP-REQUEST-ID": {
        "description": "Number of this call, 32 hex digits",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait", "required": True, "schema": {"type": "string"}}
}
_ORGANISATION: Final = Parameter(
    "X-CAP-API-AUTH-ORG-ID",
    "The number of the organisation; must be the one of the credentials",
    {"type": "string", "pattern": "^[0-9]{1,19}$"},
    "header",
)
_SCHEMES: Final = {
    "system": {
        "type": "http",
        "scheme": "basic",
        "description": "The calling system: till code, and the md5 of its password in hex as the password",
    },
    "client": {
        "type": "apiKey",
        "in": "header",
        "name": "X-CAP-API-OAUTH-TOKEN",
        "description": "The calling system, by an access token of POST /v3/oauth/token/generate",
    },
    "person": {
        "type": "apiKey",
        "in": "header",
        "name": "X-CAP-UI-AUTH-TOKEN",
        "description": "The person, by a token of POST /counterfoil/v1/ui-token",
    },
}


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole description."""
    types = [each for endpoint in endpoints for each in (endpoint.request, endpoint.response) if each is not None]
    # A union of records is written as references by hand, so what they refer to has to be named.
    types += described_calls.CALLS
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(map(id, types), schemas, strict=True))
    for family, schema in problems.SCHEMAS.items():
        components[f"Problem-{family}"] = schema
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for endpoint in endpoints:
        paths[endpoint.path][endpoint.method.lower()] = _operation(endpoint, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Counterfoil",
            "version": version("counterfoil"),
            "description": "Maker-checker control for loyalty points. Paths under /api_gateway/ are also served "
            "under /v2/api_gateway/, all with and without a trailing slash.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def refusals_of(endpoint: Endpoint) -> tuple[type[Refusal], ...]:
    """Its verb's refusals, and those of the edge and of authentication."""
    found: list[type[Refusal]] = [
        *endpoint.refusals,
        refusals.InvalidPayload,
        refusals.OurFault,
        refusals.Busy,
    ]
    if endpoint.callers != "anyone":
        found += [
            refusals.IdentityNotVerified, refusals.TokenExpired, refusals.WrongOrganisation, refusals.Throttled,
            refusals.AccessDenied,
        ]  # fmt: skip
    if endpoint.request is not None:
        found += [refusals.TooLarge, refusals.WrongMediaType]
    if "{" in endpoint.path:
        found.append(refusals.UnknownPath)
    return tuple(dict.fromkeys(found))


def _operation(endpoint: Endpoint, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.handler.__module__.rpartition('.')[2]}.{endpoint.handler.__name__}",
        "summary": endpoint.summary,
        "tags": [endpoint.family],
        "parameters": [_parameter(each) for each in parameters_of(endpoint)],
        "responses": _responses(endpoint, schema_of),
    }
    if endpoint.callers == "person":
        operation["security"] = [{who: [], "person": []} for who in ("system", "client")]
    if endpoint.callers != "anyone":
        operation["security"] = [*operation.get("security", ()), {"system": []}, {"client": []}]
    if endpoint.request is not None:
        content = {JSON: {"schema": schema_of[id(endpoint.request)]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def parameters_of(endpoint: Endpoint) -> tuple[Parameter, ...]:
    """Its own parameters, and the organisation's header."""
    if endpoint.organisation_header is None:
        return endpoint.parameters
    required = endpoint.organisation_header == "required"
    header = Parameter(_ORGANISATION.name, _ORGANISATION.description, _ORGANISATION.schema, "header", required)
    return (*endpoint.parameters, header)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "required": parameter.required,
        "schema": parameter.schema,
    }


def _responses(endpoint: Endpoint, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    schema = {"type": "string"} if endpoint.response is None else schema_of[id(endpoint.response)]
    found: dict[str, Any] = {
        "200": {
            "description": "Done",
            "headers": _CORRELATION,
            "content": {endpoint.response_type: {"schema": schema}},
        }
    }
    problem = {"schema": {"$ref": f"#/components/schemas/Problem-{endpoint.family}"}}
    by_status: dict[int, list[type[Refusal]]] = defaultdict(list)
    for refusal in refusals_of(endpoint):
        by_status[problems.status_of(refusal)].append(refusal)
    for status, kinds in sorted(by_status.items()):
        found[str(status)] = {
            "description": "; ".join(f"{kind.code} {(kind.__doc__ or '').splitlines()[0]}" for kind in kinds),
            "headers": _CORRELATION | (_RETRY_AFTER if status in (429, 503) else {}),
            "content": {JSON: problem},
        }
    return found


def endpoints(table: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The two endpoints that serve the description of the others."""
    document = msgspec.json.encode(describe(table))
    page = render_page(table).encode()
    return (
        _fixed("/openapi.json", "This description", Answer(200, document)),
        _fixed("/docs", "This description as a page", Answer(200, page, content_type=HTML)),
    )


def _fixed(path: str, summary: str, answer: Answer) -> Endpoint:
    async def give(_context: Context, _call: Call) -> Answer:
        return answer

    handler: Handler = give
    return Endpoint(
        method="GET",
        path=path,
        handler=handler,
        summary=summary,
        response=None,
        family="own",
        callers="anyone",
    )


_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h2{margin:2.5rem 0 .3rem;font-size:1.1rem}code{background:#f2f4f6;padding:.1rem .3rem;border-radius:.2rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{text-align:left;vertical-align:top;
padding:.25rem .6rem .25rem 0;border-bottom:1px solid #e3e6e9}pre{background:#f2f4f6;padding:.8rem;overflow:auto}
"""
_WHO: Final = {
    "anyone": "Anyone may call this.",
    "system": "Basic credentials of the calling system, or its X-CAP-API-OAUTH-TOKEN.",
    "person": "Basic credentials of the calling system, or its X-CAP-API-OAUTH-TOKEN; X-CAP-UI-AUTH-TOKEN for the "
    "person.",
}


def render_page(table: Sequence[Endpoint]) -> str:
    """The description as one static page, without a script or anything from elsewhere."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Counterfoil API</title>',
        f"<style>{_STYLE}</style><h1>Counterfoil API</h1>",
        '<p>Made from the same table as <a href="/openapi.json">openapi.json</a>. Every answer carries ',
        "<code>X-CAP-REQUEST-ID</code>.</p>",
    ]
    for endpoint in table:
        parts.append(f"<h2><code>{endpoint.method} {escape(endpoint.path)}</code></h2>")
        parts.append(f"<p>{escape(endpoint.summary)}. {_WHO[endpoint.callers]}</p>")
        rows = [
            (each.name, f"{each.where}{', mandatory' if each.required else ''}", each.description)
            for each in parameters_of(endpoint)
        ]
        parts.append(_table(("Parameter", "Where", "What"), rows) if rows else "")
        refused = [
            (str(problems.status_of(kind)), str(kind.code), (kind.__doc__ or "").splitlines()[0])
            for kind in refusals_of(endpoint)
        ]
        parts.append(_table(("HTTP", "Code", "Refused because"), sorted(refused)))
    return "".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + row(head, "th") + "".join(row(cells, "td") for cells in rows) + "</table>"
