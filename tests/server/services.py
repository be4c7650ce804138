"""A PostgreSQL of its own and an MLflow server on it, both on loopback; ended with everything they started."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

START_SECONDS = 240  # MLflow's first start makes its tables


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def programs() -> Path:
    """Debian's newest PostgreSQL, whose programs are not on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise RuntimeError("PostgreSQL is missing: apt-get install postgresql")
    return found[-1]


class Database:
    """A PostgreSQL cluster in a new folder under the system's temporary one, with a password."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pipeline-postgresql-"))
        self.port, self._password = free_port(), secrets.token_urlsafe(24)
        (self.folder / "password").write_text(self._password)
        if os.getuid() == 0:  # it refuses to run as root
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        self._run("initdb", "--auth=scram-sha-256", "--username=mlflow", f"--pwfile={self.folder / 'password'}")

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://mlflow:{self._password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "start", "--wait", "--log", str(self.folder / "log"), "--options", options)

    def stop(self) -> None:
        """As in a crash: at once."""
        self._run("pg_ctl", "stop", "--mode", "immediate")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(programs() / program), "-D", str(self.folder / "data"), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=(self.folder / "said").open("a"),
            stderr=subprocess.STDOUT, check=False, timeout=START_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{(self.folder / 'said').read_text()[-3000:]}")


class Server:
    """``mlflow server`` on a database; ``folder`` takes artifacts and its log."""

    def __init__(self, database: Database, folder: Path):
        self.database, self.folder, self.port = database, folder, free_port()
        self._process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """As docs/cluster.md says; returns when it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
                   "--workers", "2", "--artifacts-destination", str(self.folder / "artifacts")]  # fmt: skip
        settings = {**os.environ, "MLFLOW_BACKEND_STORE_URI": self.database.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=settings, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"mlflow server\n{(self.folder / 'server.log').read_text()[-5000:]}")
            time.sleep(0.5)

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return True
        except OSError:
            return False
