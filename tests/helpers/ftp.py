"""An FTP server on loopback: a protocol that DVC does not know."""

import logging
import threading
import time
from pathlib import Path

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer


class FtpServer:
    """Of a folder, to read. The next ``failures`` transfers fail for a moment (425); ``refused`` names are refused."""

    def __init__(self, folder: Path):
        logging.getLogger("pyftpdlib").setLevel(logging.ERROR)
        self.failures, self.refused = 0, set()
        outer = self

        class Handler(FTPHandler):
            authorizer = DummyAuthorizer()

            def ftp_RETR(self, file):
                if outer.failures:
                    outer.failures -= 1
                    self.respond("425 try again later")
                elif Path(file).name in outer.refused:
                    self.respond("550 Permission denied.")
                else:
                    return super().ftp_RETR(file)

            def ftp_MLSD(self, path):
                if outer.failures:
                    outer.failures -= 1
                    self.respond("425 try again later")
                else:
                    return super().ftp_MLSD(path)

        Handler.authorizer.add_anonymous(str(folder))
        self._server = FTPServer(("127.0.0.1", 0), Handler, ioloop=IOLoop())
        self.url = f"ftp://127.0.0.1:{self._server.address[1]}"
        self._ended, self._disconnects = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            self._server.serve_forever(timeout=0.02, blocking=False)
            if self._disconnects.is_set():
                for handler in list(self._server.ioloop.socket_map.values()):
                    if isinstance(handler, FTPHandler):
                        handler.close()
                self._disconnects.clear()
        self._server.close_all()

    def disconnect(self) -> None:
        """End every connection; new ones are taken."""
        self._disconnects.set()
        while self._disconnects.is_set():
            time.sleep(0.01)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
