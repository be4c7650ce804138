"""MLflow: one run a stage run. The only file that imports mlflow.

A run is keyed by stage, item, parameters, input hashes and code. The same key resumes its run; another key adds a run
and marks the one it replaces. A store that cannot be reached is reported before any work; one that dies later costs the
record, never the result.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

log = logging.getLogger(__name__)

EXPERIMENT = "cond-image-leakage"
GO_ON_WITHOUT = "mend it, name another store in MLFLOW_TRACKING_URI, or go on without records: PIPELINE_TRACKING=off"
PATIENCE_SECONDS = 30  # for an answer: a server with many jobs is slow, one that is not there refuses at once
# Read by mlflow when it is imported: nothing phones home, and a dead server is noticed in seconds.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE_SECONDS),
    "GIT_PYTHON_REFRESH": "quiet",
}
MAX_PARAM, MAX_TAG, MAX_BATCH = 5900, 4900, 90
FLUSH_SECONDS = 10.0


@dataclass(frozen=True)
class RunKey:
    """What makes a stage run the same run."""

    stage: str
    item: str
    params: dict[str, Any]
    inputs: dict[str, str]  # path -> hash
    code: dict[str, str]  # path -> hash
    command: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def tracking_enabled() -> bool:
    """Whether ``PIPELINE_TRACKING`` leaves records on."""
    return os.environ.get("PIPELINE_TRACKING", "on").lower() not in ("off", "0", "no", "none", "false")


def tracking_uri(root: Path) -> str:
    """``MLFLOW_TRACKING_URI``, else SQLite in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve()}/mlruns.db"


def _client(root: Path):
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri(root))


def prepare_store(root: Path, ask_server: bool = True) -> None:
    """Make sure of the store before any work; raises PipelineError that says how to go on without it.

    ``ask_server``: whether one must answer now; a job of a run that began with one only loses its record.

    The first use of a new SQLite store migrates its tables, and fails when several processes do so at once: hence a
    lock.
    """
    if not tracking_enabled():
        return
    uri = tracking_uri(root)
    if ask_server and uri.startswith(("http://", "https://")):
        _check_server(uri)
    stamp = root / "mlruns.db.ready"
    wanted = f"{uri}\n{importlib.metadata.version('mlflow')}\n"
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///").split("?")[0]).exists():
        stamp.unlink(missing_ok=True)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    with (root / "mlruns.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        try:
            _make_experiment(_client(root), (root / "mlartifacts").resolve() if uri.startswith("sqlite:") else None)
        except Exception as error:
            raise PipelineError(
                f"the MLflow store {_safe(uri)} cannot be used ({_first_line(error)}); {GO_ON_WITHOUT}"
            ) from error
        stamp.write_text(wanted)


def _make_experiment(client, artifacts: Path | None) -> None:
    """Once, whoever comes first; another clone may do so at the same moment."""
    if client.get_experiment_by_name(EXPERIMENT) is not None:
        return
    try:
        client.create_experiment(EXPERIMENT, artifacts.as_uri() if artifacts else None)
    except Exception:
        if client.get_experiment_by_name(EXPERIMENT) is None:
            raise


def _check_server(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PATIENCE_SECONDS):
            return
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in shows below
    except OSError as error:
        raise PipelineError(
            f"the MLflow server {_safe(uri)} cannot be reached ({_first_line(error)}); {GO_ON_WITHOUT}"
        ) from None


def _safe(uri: str) -> str:
    """The address without a password."""
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


class NullRecord:
    """Keeps nothing."""

    def params(self, values: dict) -> None: ...
    def metrics(self, values: dict, step: int | None = None) -> None: ...
    def artifact(self, path: Path, folder: str | None = None) -> None: ...
    def tags(self, values: dict) -> None: ...
    def outputs(self, hashes: dict[str, str]) -> None: ...
    def finish(self, status: str, costs: list[dict[str, float]]) -> None: ...


def open_record(
    root: Path, key: RunKey, *, group: str | None, engine: str, device: str, git_commit: str | None
) -> "Record | NullRecord":
    """Start or resume the run of this key; ``group`` is the table row, training or backbone that it belongs to."""
    if not tracking_enabled():
        return NullRecord()
    record = Record(root)
    record.start(key, group=group, engine=engine, device=device, git_commit=git_commit)
    return record


def _never_fails(method):
    """A store that dies costs the record: one warning, then silence."""

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        if self._dead:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._dead = True
            log.warning(
                "the MLflow store failed (%s); the result is not affected, its record is lost", _first_line(error)
            )

    return guarded


class Record:
    """One MLflow run. Metrics are buffered; every method survives a failing store."""

    def __init__(self, root: Path):
        self._root, self._dead, self._buffer, self._flushed = root, False, [], time.monotonic()

    @_never_fails
    def start(self, key: RunKey, *, group, engine, device, git_commit) -> None:
        self._client = client = _client(self._root)
        experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
        name = f"{key.stage}@{key.item}" if key.item else key.stage
        before = client.search_runs(
            [experiment],
            f"tags.`pipeline.stage` = '{key.stage}' and tags.`pipeline.item` = '{key.item}'",
            order_by=["attributes.start_time DESC"],
            max_results=100,
        )
        same = [run for run in before if run.data.tags.get("pipeline.key") == key.digest]
        if same:
            self._id = same[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            client.set_tag(self._id, "pipeline.superseded_by", "")
        else:
            self._id = client.create_run(experiment, run_name=name).info.run_id
            self.params(key.params)
        self.tags({
            "pipeline.key": key.digest,
            "pipeline.stage": key.stage,
            "pipeline.item": key.item,
            "pipeline.row": group or "",
            "pipeline.engine": engine,
            "pipeline.device": device,
            "mlflow.source.git.commit": git_commit or "",
            **{f"input.{path}": value for path, value in key.inputs.items()},
            **{f"code.{path}": value for path, value in key.code.items()},
        })  # fmt: skip
        for run in before:
            if run.info.run_id != self._id and not run.data.tags.get("pipeline.superseded_by"):
                client.set_tag(run.info.run_id, "pipeline.superseded_by", self._id)
                client.set_tag(self._id, "pipeline.replaces", run.info.run_id)

    @_never_fails
    def params(self, values: dict) -> None:
        """Parameters, nested ones by their path."""
        from mlflow.entities import Param

        flat = [Param(name[:240], str(value)[:MAX_PARAM]) for name, value in _flatten(values)]
        for start in range(0, len(flat), MAX_BATCH):
            self._client.log_batch(self._id, params=flat[start : start + MAX_BATCH])

    @_never_fails
    def metrics(self, values: dict, step: int | None = None) -> None:
        """Numbers, kept in a buffer that is sent every few seconds and at the end; what is not finite is left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._buffer += [
            Metric(name, float(value), now, step or 0) for name, value in values.items() if math.isfinite(float(value))
        ]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        for start in range(0, len(self._buffer), 900):
            self._client.log_batch(self._id, metrics=self._buffer[start : start + 900])
        self._buffer, self._flushed = [], time.monotonic()

    @_never_fails
    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A figure, table or sample video."""
        if Path(path).is_dir():
            self._client.log_artifacts(self._id, str(path), folder)
        else:
            self._client.log_artifact(self._id, str(path), folder)

    @_never_fails
    def tags(self, values: dict) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(_tag_name(name), str(value)[:MAX_TAG]) for name, value in values.items()]
        for start in range(0, len(tags), MAX_BATCH):
            self._client.log_batch(self._id, tags=tags[start : start + MAX_BATCH])

    def outputs(self, hashes: dict[str, str]) -> None:
        """Content hashes of what the stage wrote."""
        self.tags({f"output.{path}": value for path, value in hashes.items()})

    @_never_fails
    def finish(self, status: str, costs: list[dict[str, float]]) -> None:
        """``costs``: ``wall_s`` and ``peak_memory_mb`` of each process; none where they are not known."""
        if costs:
            wall_s, peak = sum(cost["wall_s"] for cost in costs), max(cost["peak_memory_mb"] for cost in costs)
            self.metrics({"wall_s": wall_s, "peak_memory_mb": peak})
        self._flush()
        self._client.set_terminated(self._id, status)


@dataclass(frozen=True)
class Cost:
    """What one job took: all its attempts together, the largest memory of any."""

    stage: str
    item: str
    device: str
    wall_s: float
    peak_memory_mb: float
    commit: str = ""  # that was checked out; "" without git


def job_costs(root: Path) -> list[Cost]:
    """Costs of every job whose last record is finished, by stage and item; none where records are off.

    Raises PipelineError where the store holds no experiment of ours.
    """
    if not tracking_enabled():
        log.warning("PIPELINE_TRACKING is off: there are no records to sum")
        return []
    client = _client(root)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise PipelineError(f"{tracking_uri(root)} holds no experiment {EXPERIMENT}; run some stage first")
    found, token = {}, None
    while True:
        page = client.search_runs(
            [experiment.experiment_id],
            "attributes.status = 'FINISHED'",
            order_by=["attributes.start_time ASC"],
            max_results=1000,
            page_token=token,
        )
        for run in page:
            tags = run.data.tags
            walls = [point.value for point in client.get_metric_history(run.info.run_id, "wall_s")]
            if walls and not tags.get("pipeline.superseded_by"):
                peaks = client.get_metric_history(run.info.run_id, "peak_memory_mb")
                job = (tags["pipeline.stage"], tags["pipeline.item"])
                peak = max(point.value for point in peaks)
                commit = tags.get("mlflow.source.git.commit", "")
                found[job] = Cost(*job, tags.get("pipeline.device", ""), sum(walls), peak, commit)
        token = page.token
        if not token:
            return [found[job] for job in sorted(found)]


def _tag_name(name: str) -> str:
    """MLflow refuses names with characters that a path may have."""
    safe = "".join(letter if letter.isalnum() or letter in "_-./ :" else "_" for letter in name)
    return safe.replace("..", "__")[:240]  # nor one that climbs, as the path of data outside the project does


def _flatten(values: Any, path: str = ""):
    if isinstance(values, dict) and (values or not path):
        for key, value in values.items():
            yield from _flatten(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def serve_ui(root: Path, port: int) -> int:
    """MLflow's page on loopback, until it is stopped."""
    os.environ.update(SETTINGS)
    command = ["mlflow", "server", "--backend-store-uri", tracking_uri(root), "--host", "127.0.0.1",
               "--port", str(port), "--workers", "1",
               "--default-artifact-root", (root / "mlartifacts").resolve().as_uri()]  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        os.execvp(command[0], command)
    return 0
