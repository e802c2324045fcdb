"""Opens the studio to browsers."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import socket

import uvicorn
from fastapi import FastAPI

from pipelines.recipe import BadInput
from studio.files import DataDir
from studio.http import create_app
from studio.settings import Settings
from studio.studio import Studio

_GRACE_S = 2
_LOG_BYTES = 5_000_000


class StudioServer(uvicorn.Server):
    """A server that opens the studio's threads when it listens, and closes them before it stops.

    The model is loaded only once the page can be served: importing torch would hold the page back.
    """

    def __init__(self, config: uvicorn.Config, studio: Studio, address: str) -> None:
        super().__init__(config)
        self._studio = studio
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then begin to load the model."""
        await super().startup(sockets)
        if self.started:
            self._studio.start()
            print(f"Atelier is open at {self._address}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the open streams, which would never end by themselves, then stop."""
        self._studio.sketches.close()
        self._studio.jobs.close()
        await super().shutdown(sockets)
        self._studio.close()


def serve(settings: Settings) -> None:
    """Serve the studio until it is interrupted.

    Raises:
        BadInput: the port is taken, the data directory cannot be used, or there is no such model.
    """
    with contextlib.closing(listen(settings.host, settings.port)) as listener:
        studio = Studio(settings)
        try:
            _log_to(DataDir(settings.data_dir))
            config = uvicorn.Config(
                _whole_app(studio), log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_S
            )
            server = StudioServer(config, studio, _address(settings.host, listener))
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listener])
        finally:
            studio.close()


def _whole_app(studio: Studio) -> FastAPI:
    from studio.page import mount_page

    return mount_page(create_app(studio), studio)


def listen(host: str, port: int) -> socket.socket:
    """Take a port before anything else is begun.

    Raises:
        BadInput: it is taken, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise BadInput(
            f"Atelier cannot listen on {host} port {port} ({error.strerror}). Close the Atelier that is open "
            "or choose another --port.",
            "port",
        ) from None
    return listener


def _address(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log_to(data: DataDir) -> None:
    """Log to the data directory, and what needs a human to standard error as well."""
    file = logging.handlers.RotatingFileHandler(
        data.log, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8", delay=True
    )
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    logging.basicConfig(
        level=logging.INFO,
        handlers=[file, terminal],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
