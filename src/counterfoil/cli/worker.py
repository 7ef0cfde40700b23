"""One worker process of `serve`. It is started by the supervisor and ends with it, however that ends.

    python -m counterfoil.cli.worker <number of the listening socket> <slot>

Settings come in the environment. Standard input is a pipe that the supervisor never writes to: its end means
that the supervisor is gone. Standard output tells the supervisor, in one line, that this worker serves.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

from counterfoil import telemetry
from counterfoil.cli.executors import executor_of, spare_the_collector
from counterfoil.http.app import create_app
from counterfoil.http.server import make_server
from counterfoil.settings import Settings, load_settings
from counterfoil.storage import embedded

READY = b"ready\n"
EMBEDDED = "COUNTERFOIL_EMBEDDED"  # set by the supervisor where it has started the database itself
_SPARE_SECONDS = 5


def _follow_supervisor(settings: Settings, slot: int) -> None:
    """Drain and end when the supervisor is gone; the first worker takes the embedded database down."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(settings.drain_seconds + _SPARE_SECONDS)
    _leave_nothing(slot, settings)
    os._exit(1)


def _leave_nothing(slot: int, settings: Settings) -> None:
    if slot == 0 and os.environ.get(EMBEDDED):
        # The last one out stops the server: join and leave.
        embedded.stop(embedded.start(settings.data_dir))


def _tell_ready() -> None:
    spare_the_collector()
    os.write(sys.stdout.fileno(), READY)


def main() -> None:
    """Serve until SIGTERM."""
    settings = load_settings(os.environ)
    telemetry.configure_logs(settings.log_level)
    listening = socket.socket(fileno=int(sys.argv[1]))
    slot = int(sys.argv[2])
    parent = os.getppid()
    follower = threading.Thread(target=_follow_supervisor, args=(settings, slot), daemon=True)
    follower.start()
    server = make_server(
        create_app(settings, executor_of(settings) if settings.execute == "on" else None),
        on_started=_tell_ready,
        header_bytes_max=settings.header_bytes_max,
        request_seconds_max=settings.request_seconds_max,
        keep_alive_seconds=settings.keep_alive_seconds,
        drain_seconds=settings.drain_seconds,
        trusted_proxies=settings.trusted_proxies,
    )
    server.run(sockets=[listening])
    if os.getppid() != parent:
        _leave_nothing(slot, settings)


if __name__ == "__main__":
    main()
