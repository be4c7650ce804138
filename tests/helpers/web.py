"""A web server on loopback."""

import http.server
import threading
from functools import partial
from pathlib import Path


class Server:
    """A web server on loopback; ``fails`` may give a path a status instead of its file."""

    def __init__(self, folder: Path):
        self.fails = lambda path: None
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                if status := outer.fails(self.path):
                    self.send_error(status)
                else:
                    super().do_GET()

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
