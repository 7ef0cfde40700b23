"""Sends one outbound call, once, and tells precisely what is known afterwards (design.md §8).

No redirects, no cookies, no proxies or passwords of the environment, no repeat below us. A call that nothing
could clear up never uses a connection that was used before: such a one may be closing on the other side.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

import aiohttp
import msgspec
from aiohttp.connector import Connection
from msgspec import Struct
from yarl import URL

from counterfoil.domain.answers import ANSWER_BYTES_MAX, plain_text
from counterfoil.domain.attempts import REPEATS, Failure, OutboundCall, Reply
from counterfoil.domain.echoes import without_secrets
from counterfoil.domain.look_ups import Absent, Found, NoVerdict, build_look_up, judge_look_up
from counterfoil.targets.resolving import AddressRefused, Names, Resolve, resolve_name

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 20.0
KEPT_TRIED_MAX: Final = 8
IDLE_SECONDS: Final = 3.0  # below what servers keep an idle connection for
HEADER_BYTES_MAX: Final = 8190
HEADERS_MAX: Final = 100
_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class TooLarge(Exception):
    """The answer is over the limit."""


class Lost(aiohttp.ClientConnectionError):
    """The connection broke after it was made."""


class Unreadable(Exception):
    """The answer is in an encoding that was not asked for and is not known."""


class Withheld(Exception):
    """Who wanted to send it may not any more: frozen for a while, and the request is another's by now."""


class Stale(aiohttp.ClientConnectionError):
    """A connection that was kept has something to say before it was asked: nothing was sent on it."""


@dataclass(slots=True)
class Progress:
    """Whether a byte of the request may have left, and who says whether it still may."""

    sent: bool = False
    may_send: Callable[[], bool] = lambda: True


_PROGRESS: Final[ContextVar[Progress]] = ContextVar("progress")
_USED: Final[WeakSet[asyncio.BaseProtocol]] = WeakSet()  # the connections that have carried a request


class Request(aiohttp.ClientRequest):
    """A request that goes out on a kept connection only if that is silent: else its answer would be another's."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request: from here on its bytes may have left."""
        progress = _PROGRESS.get()
        if conn.protocol in _USED and not _is_silent(conn):
            raise Stale("the connection has ended or carries an answer too many")
        if not progress.may_send():
            raise Withheld("the lease ended before anything was sent")
        progress.sent = True
        if conn.protocol is not None:
            _USED.add(conn.protocol)
        return await super().send(conn)


def _is_silent(conn: Connection) -> bool:
    """Nothing came since the last answer, read or unread: no byte more, and no end."""
    protocol, transport = conn.protocol, conn.transport
    if protocol is None or transport is None or protocol.should_close:
        return False
    unread = select.poll()
    unread.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not unread.poll(0)


class Session(Struct, frozen=True):
    """What one process sends with."""

    reusing: aiohttp.ClientSession
    fresh: aiohttp.ClientSession
    names: Names
    connect_seconds: float
    read_seconds: float
    _contexts: dict[str | None, ssl.SSLContext] = msgspec.field(default_factory=dict)

    def context(self, ca_pem: str | None) -> ssl.SSLContext:
        """The certificates to trust, read once: the system's, or only those of the host entry."""
        found = self._contexts.get(ca_pem)
        if found is None:
            found = self._contexts[ca_pem] = ssl.create_default_context(cadata=ca_pem)
        return found


@asynccontextmanager
async def open_session(
    *,
    resolve: Resolve = resolve_name,
    connect_seconds: float = CONNECT_SECONDS,
    read_seconds: float = READ_SECONDS,
) -> AsyncIterator[Session]:
    """One session for the whole process. How many calls run at once is for the caller to bound."""
    reusing = _client(aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS))
    fresh = _client(aiohttp.TCPConnector(limit=0, force_close=True))
    async with reusing, fresh:
        yield Session(reusing, fresh, Names(resolve), connect_seconds, read_seconds)


def _client(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        request_class=Request,
        headers={"User-Agent": "Counterfoil", "Accept-Encoding": "identity"},
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        max_headers=HEADERS_MAX,
    )


async def _once(request: aiohttp.ClientRequest, pass_on: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Aiohttp sends a PUT or GET a second time when its connection breaks: told by another error, it does not."""
    try:
        return await pass_on(request)
    except (aiohttp.ClientConnectorError, Stale):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Lost(str(error)) from error


async def send(session: Session, call: OutboundCall, *, may_send: Callable[[], bool] = lambda: True) -> Reply | Failure:
    """Send the call once. A cancelled send counts as sent: nobody knows. `may_send` is asked at the last moment."""
    progress = Progress(may_send=may_send)
    _PROGRESS.set(progress)
    try:
        async with asyncio.timeout(call.deadline_seconds):
            return without_secrets(await _send(session, call, progress), call.headers)
    except (AddressRefused, Withheld) as error:
        kind = "address" if isinstance(error, AddressRefused) else "lease"
        return Failure(sent=False, kind=kind, message=str(error))
    except socket.gaierror as error:
        return Failure(sent=False, kind="resolve", message=f"the name has no address: {error}")
    except TooLarge:
        return Failure(sent=True, kind="too_large", message=f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
    except TimeoutError:
        what = "no complete answer came in time" if progress.sent else "no connection was made in time"
        return Failure(progress.sent, "timeout", what)
    except (aiohttp.ClientConnectorSSLError, aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
        return Failure(progress.sent, "tls", f"TLS failed: {error}")
    except aiohttp.ClientResponseError as error:  # its own text has the whole URL, with who the member is
        return Failure(progress.sent, "unreadable", f"the answer cannot be read: {plain_text(error.message)}")
    except (Unreadable, zlib.error) as error:
        return Failure(progress.sent, "unreadable", f"the answer cannot be read: {error}")
    except (aiohttp.ClientError, OSError) as error:
        kind = "cut" if progress.sent else "connect"
        return Failure(progress.sent, kind, plain_text(f"{type(error).__name__}: {error}"))
    except Exception as error:  # noqa: BLE001 - whatever it was, the bytes may have left: the caller must learn that
        return Failure(progress.sent, "unreadable", f"the call failed: {type(error).__name__}")


async def _send(session: Session, call: OutboundCall, progress: Progress) -> Reply:
    url = URL(call.url, encoded=True)
    name, port = url.raw_host, url.port
    if name is None or port is None or url.scheme not in ("http", "https") or url.raw_user is not None:
        raise AddressRefused(f"the host entry {call.host.host_id} has no address that can be called")
    if url.scheme == "http" and not call.host.plain_http:
        raise AddressRefused(f"{name}: plain HTTP, which the host entry {call.host.host_id} does not allow")
    addresses = await session.names.addresses(name, port, call.host)
    context = session.context(call.host.ca_pem) if url.scheme == "https" else None
    for address in addresses[:-1]:
        try:
            return await _send_to(session, call, url, address, context)
        except (aiohttp.ClientConnectionError, TimeoutError):
            if progress.sent:
                raise
    return await _send_to(session, call, url, addresses[-1], context)


async def _send_to(
    session: Session, call: OutboundCall, url: URL, address: str, context: ssl.SSLContext | None
) -> Reply:
    """On a connection that was kept, if it is still good, else on a new one."""
    if call.method == "GET" or REPEATS[call.request_type].harmless:
        for _ in range(KEPT_TRIED_MAX):
            with suppress(Stale):
                return await _send_by(session.reusing, session, call, url, address, context)
    return await _send_by(session.fresh, session, call, url, address, context)


async def _send_by(
    client: aiohttp.ClientSession,
    session: Session,
    call: OutboundCall,
    url: URL,
    address: str,
    context: ssl.SSLContext | None,
) -> Reply:
    """Connect to this very address; the name goes into Host, SNI and the certificate's check."""
    async with client.request(
        call.method,
        url.with_host(address),
        headers=[*call.headers, ("Host", url.raw_authority)],
        data=call.body or None,
        allow_redirects=False,
        ssl=context if context is not None else True,
        server_hostname=url.raw_host if context is not None else None,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=session.connect_seconds, sock_read=session.read_seconds),
        middlewares=(_once,),
    ) as response:
        body = await _read(response)
        raw = response.raw_headers
        headers = tuple(
            (plain_text(each.decode("latin-1")), plain_text(value.decode("latin-1"))) for each, value in raw
        )
        return Reply(response.status, headers, body)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, decompressed where it was compressed although we asked for none, never beyond the limit."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", *_WINDOW_BITS):
        raise Unreadable(f"content encoding {encoding[:40]}")
    inflate: Any = zlib.decompressobj(_WINDOW_BITS[encoding]) if encoding in _WINDOW_BITS else None
    body = bytearray()
    async for chunk in response.content.iter_any():
        room = ANSWER_BYTES_MAX - len(body)
        body += chunk if inflate is None else inflate.decompress(chunk, room + 1)
        if len(body) > ANSWER_BYTES_MAX:
            response.close()
            raise TooLarge
    if inflate is not None and not inflate.eof:
        raise Unreadable("the compressed body ends early")
    return bytes(body)


async def look_up(session: Session, call: OutboundCall) -> Found | Absent | NoVerdict:
    """Whether the effect of this call, whose answer was lost, is there; reads only."""
    read = build_look_up(call)
    if read is None:
        return NoVerdict(f"nothing tells what became of it: {REPEATS[call.request_type].look_up.value}")
    return judge_look_up(read, await send(session, read.call))
