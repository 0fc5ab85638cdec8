"""A TCP proxy before a server of S3's API that cuts or stops connections while objects are written."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Fault = Literal["none", "cut", "stop"]


class FaultyProxy:
    """Forwards connections to a port of this machine.

    `fault` is asked at every PUT, with its number from 1 and its path: `cut` forwards half of what arrived and closes
    the connection, so the server sees a truncated body; `stop` forwards half and then neither answers nor closes.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.port: int = self._listener.getsockname()[1]
        self.fault: Callable[[int, str], Fault] = lambda number, path: "none"
        self.puts: list[str] = []
        """Paths in order."""
        self.stopped = threading.Event()
        """A connection was stopped."""
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._upstream))
        back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                fault = self._judge(data)
                server.sendall(data if fault == "none" else data[: len(data) // 2])
                if fault == "stop":
                    self.stopped.set()
                    threading.Event().wait()
                if fault == "cut":
                    break
        for one in (client, server):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)

    def _judge(self, data: bytes) -> Fault:
        if not data.startswith(b"PUT "):
            return "none"
        path = data.split(b" ", 2)[1].decode()
        with self._lock:
            self.puts.append(path)
            return self.fault(len(self.puts), path)


@contextmanager
def faulty_proxy(port: int) -> Iterator[FaultyProxy]:
    """The proxy, until the end of the block."""
    proxy = FaultyProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
