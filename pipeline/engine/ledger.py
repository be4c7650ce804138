"""What dvc.yaml says and what dvc.lock records, read from DVC's own index: no second reading of its templates.

Snakemake, the runner and the tests use this; nothing else looks into dvc.yaml.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.engine.parts import flush
from pipeline.engine.processes import drop_torn_rwlock
from pipeline.errors import PipelineError
from pipeline.urls import is_url

CODE_ROOTS = ("pipeline",)
COMMITTED_AT_ONCE = 50  # jobs: dvc.lock is written once for them, and a kill costs no more


@dataclass(frozen=True)
class StageEntry:
    """One job of dvc.yaml: ``name@key``, its command and its paths relative to the repository."""

    name: str
    key: str | None
    command: str
    inputs: tuple[str, ...]  # data it reads, in the order of dvc.yaml
    code: tuple[str, ...]  # modules of ours that it runs
    params: tuple[str, ...]  # declared keys of params.yaml
    outputs: tuple[str, ...]
    meta: dict

    @property
    def address(self) -> str:
        return f"{self.name}@{self.key}" if self.key else self.name


@dataclass(frozen=True)
class Result:
    """A job that was done without DVC: its parameters, content hashes of its inputs and code, and of its outputs."""

    entry: StageEntry
    params: dict
    hashes: dict[str, str]
    outputs: dict[str, str]


class Ledger:
    """The stages of one repository. ``locked``: wait for other processes of this host, which may be writing it.

    Elsewhere that lock does not reach: what is read in the middle of a write is read again.
    """

    def __init__(self, root: Path | str = ".", locked: bool = True):
        os.environ.setdefault("DVC_NO_ANALYTICS", "1")
        from dvc.exceptions import DvcException, NotDvcRepoError
        from dvc.fs import RemoteMissingDepsError
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.ERROR)
        try:
            self.repo = Repo(str(root), _wait_for_lock=True)
            drop_torn_rwlock(Path(self.repo.tmp_dir))
            with self.repo.lock if locked else nullcontext():  # dvc.lock is rewritten in place by other jobs
                self._stages = self._read(1 if locked else 5)
        except NotDvcRepoError as error:
            raise PipelineError(f"{error}; run this in the project's folder (without git: see README)") from None
        except DvcException as error:
            if "not a git repository" in str(error):
                hint = "without git, tell DVC so once: dvc config --local core.no_scm true"
                raise PipelineError(f"{error}; {hint}") from None
            raise PipelineError(f"dvc.yaml or params.yaml cannot be read: {error}") from None
        except RemoteMissingDepsError as error:
            raise PipelineError(f"an input of params.yaml lies behind a URL: {error}; pip install it") from None
        self.root = Path(self.repo.root_dir)
        for item in (item for stage in self._stages for item in (*stage.deps, *stage.outs) if not item.hash_info):
            item.update_legacy_hash_name(force=True)  # else DVC leaves line ends out of a hash until it records one

    def _read(self, tries: int) -> list:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        for left in reversed(range(tries)):
            try:
                return list(self.repo.index.stages)
            except DvcException:
                if not left:
                    raise
                time.sleep(1)
                self.repo = Repo(str(self.repo.root_dir), _wait_for_lock=True)

    @cached_property
    def entries(self) -> dict[str, StageEntry]:
        """Every job by its address (DVC's own, but for where one is: that one is relative to the working folder)."""
        return {stage.name: self._entry(stage) for stage in self._stages}

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.root)

    def _place(self, item) -> str:
        """Where an input or output lies: a path from the root, or the URL as params.yaml has it."""
        return (
            str(item.def_path) if is_url(item.def_path) and item.protocol != "local" else self._relative(item.fs_path)
        )

    def _entry(self, stage) -> StageEntry:
        from dvc.dependency.param import ParamsDependency

        name, _, key = stage.name.partition("@")
        params = [key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params]
        paths = [self._place(dep) for dep in stage.deps if not isinstance(dep, ParamsDependency)]
        code = [path for path in paths if Path(path).parts[0] in CODE_ROOTS]
        return StageEntry(
            name=name,
            key=key or None,
            command=stage.cmd.removeprefix("exec "),
            inputs=tuple(path for path in paths if path not in code),
            code=tuple(code),
            params=tuple(params),
            outputs=tuple(self._relative(out.fs_path) for out in stage.outs),
            meta=dict(stage.meta or {}),
        )

    def by_command(self, arguments: list[str]) -> StageEntry:
        """The job whose command is ``python -m pipeline ARGUMENTS``; raises PipelineError with what there is."""
        wanted = " ".join(["python", "-m", "pipeline", *arguments])
        for entry in self.entries.values():
            if entry.command == wanted:
                return entry
        same = [entry.command for entry in self.entries.values() if entry.command.split()[3:4] == arguments[:1]]
        listing = "\n".join(f"  {command}" for command in sorted(same))
        raise PipelineError(f"no stage of dvc.yaml has the command `{wanted}`; there are:\n{listing}")

    def producer(self, path: str) -> StageEntry | None:
        """The job that makes ``path`` or a folder around it."""
        parts = Path(path).parts
        for depth in range(len(parts), 0, -1):
            entry = self._producers.get(str(Path(*parts[:depth])))
            if entry:
                return entry
        return None

    @cached_property
    def _producers(self) -> dict[str, StageEntry]:
        return {output: entry for entry in self.entries.values() for output in entry.outputs}

    def upstream_paths(self, path: str) -> list[str]:
        """The outputs that make up an input: itself, the folder it lies in, or all that lie in it; of a URL nothing."""
        if is_url(path):
            return []
        owner = self.producer(path)
        if owner:
            parents = [output for output in owner.outputs if Path(path).is_relative_to(output)]
            return parents
        inside = [output for output in self._producers if Path(output).is_relative_to(path)]
        return sorted(inside) or [path]

    def upstream_of(self, path: str) -> list[str]:
        """The outputs of jobs that make up an input; none where it is a user's own."""
        return [made for made in self.upstream_paths(path) if self.producer(made)]

    def upstream(self, entry: StageEntry) -> set[str]:
        """Addresses of the jobs whose outputs a job reads."""
        owners = (self.producer(path) for made in entry.inputs for path in self.upstream_paths(made))
        return {owner.address for owner in owners if owner}

    def changes(self) -> dict[str, list[str]]:
        """Addresses that DVC calls changed, with what changed; PipelineError while another pipeline's job runs."""
        from dvc.exceptions import DvcException
        from dvc.lock import LockError

        names = {stage.addressing: stage.name for stage in self._stages}
        try:
            status = {names.get(address, address): found for address, found in self.repo.status().items()}
        except LockError as error:
            raise PipelineError(f"another pipeline works in this folder; wait for it or stop it. {error}") from None
        except DvcException as error:
            raise PipelineError(f"DVC cannot tell what has changed: {error}") from None
        unknown = sorted(set(status) - set(self.entries))
        if unknown:
            logging.getLogger(__name__).warning("not stages of dvc.yaml, left alone: %s", ", ".join(unknown))
        return {address: _words(found) for address, found in status.items() if address in self.entries}

    def closed_downstream(self, changed: Iterable[str]) -> set[str]:
        """These jobs and all that rest on their outputs."""
        found = set(changed)
        for entry in self.in_order():
            if self.upstream(entry) & found:
                found.add(entry.address)
        return found

    def stale(self) -> set[str]:
        """Addresses that DVC calls changed, closed downstream."""
        return self.closed_downstream(self.changes())

    def hashes(self, entry: StageEntry, kind: str, only: tuple[str, ...] | None = None) -> dict[str, str]:
        """Content hashes of a job's ``inputs``, ``code`` or ``outputs`` as DVC computes them (cached by mtime)."""
        wanted = set(getattr(entry, kind) if only is None else only)
        stage = self._stage(entry)
        candidates = stage.outs if kind == "outputs" else stage.deps
        found = {}
        for item in candidates:
            path = self._place(item)
            if path in wanted and item.exists:
                found[path] = str(item.get_hash().value)
        return found

    def _stage(self, entry: StageEntry):
        return self._stages_by_name[entry.address]

    @cached_property
    def _stages_by_name(self) -> dict:
        return {stage.name: stage for stage in self._stages}

    def in_order(self) -> list[StageEntry]:
        """Every job after those whose outputs it reads."""
        return [self.entries[address] for address in self._order]

    @cached_property
    def _order(self) -> list[str]:
        graph = {address: self.upstream(entry) for address, entry in self.entries.items()}
        return list(TopologicalSorter(graph).static_order())

    def records(self, entry: StageEntry, outputs: dict[str, str]) -> bool:
        """Whether dvc.lock says that the job's outputs have these content hashes."""
        recorded = {self._relative(out.fs_path): str(out.hash_info.value) for out in self._stage(entry).outs}
        return recorded == outputs

    def caches(self, entry: StageEntry) -> bool:
        """Whether DVC's cache has the outputs that dvc.lock says it keeps; a fresh clone has the record alone."""
        outs = [out for out in self._stage(entry).outs if out.use_cache]
        return all(out.hash_info and out.cache.exists(out.hash_info.value) for out in outs)

    def recorded(self, entry: StageEntry) -> tuple[dict, dict[str, str]]:
        """Parameters, and content hashes of inputs and code, that a job ran with; empty where dvc.lock has none."""
        from dvc.dependency.param import ParamsDependency

        hashes, params = {}, {}
        for dep in self._stage(entry).deps:
            if isinstance(dep, ParamsDependency):
                params |= dep.hash_info.value or {}
            else:
                hashes[self._place(dep)] = str(dep.hash_info.value)
        return params, hashes

    def knows(self, entry: StageEntry, params: dict, hashes: dict[str, str]) -> bool:
        """Whether dvc.lock says what these parameters and these contents of inputs and code gave."""
        return not self._stage(entry).cmd_changed and self.recorded(entry) == (params, hashes)

    def only_git_has(self, entry: StageEntry) -> bool:
        """Whether a job's outputs are here as dvc.lock records them for its command, and DVC caches none of them."""
        stage = self._stage(entry)
        here = not any(out.use_cache for out in stage.outs) and not stage.cmd_changed
        return here and self.records(entry, self.hashes(entry, "outputs"))

    def recorded_sizes(self) -> dict[str, int]:
        """Bytes of the outputs of each job that dvc.lock records, those of rows that are gone included."""
        path = self.root / "dvc.lock"
        if not path.exists():
            return {}
        stages = YAML(typ="safe").load(path.read_text())["stages"]
        return {name: sum(out.get("size", 0) for out in stage.get("outs", [])) for name, stage in stages.items()}

    def unused_cache(self) -> tuple[int, int]:
        """Files in DVC's cache that no job of dvc.yaml, as it is now, needs, and their bytes."""
        odb, names = self.repo.cache.local, self._unused()
        return len(names), sum(odb.fs.size(odb.oid_to_path(name)) for name in names)

    def drop_unused_cache(self) -> None:
        """Remove what ``unused_cache`` counts."""
        for name in self._unused():
            self.repo.cache.local.delete(name)

    def _unused(self) -> list[str]:
        used = {str(item.value) for found in self.repo.used_objs().values() for item in found}
        for out in (out for stage in self._stages for out in stage.outs if not out.use_cache and out.exists):
            path = Path(out.fs_path)  # DVC's run cache holds a copy of what git keeps
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            used |= {str(out.hash_info.value), *(hashlib.md5(file.read_bytes()).hexdigest() for file in files)}
        return [name for name in self.repo.cache.local.all() if name not in used]

    def commit(self, results: list[Result]) -> list[StageEntry]:
        """Enter jobs that were done without DVC, but for those whose parameters, files or outputs are others by now.

        Returns those entered. Raises PipelineError where DVC could not take outputs into its cache.
        """
        entered = []
        with self.repo.lock:
            for first in range(0, len(results), COMMITTED_AT_ONCE):
                some = [result for result in results[first : first + COMMITTED_AT_ONCE] if self._save(result)]
                if some:
                    self._record([self._stage(result.entry) for result in some])
                entered += [result.entry for result in some]
        return entered

    def _save(self, result: Result) -> bool:
        """Let DVC look at a job and take its outputs into the cache; returns whether it saw what the result says."""
        from dvc.exceptions import DvcException

        stage = self._stage(result.entry)
        try:
            stage.save(run_cache=False)
        except DvcException as error:  # gone, or out of reach, since a moment ago
            raise PipelineError(f"{result.entry.address} cannot be entered into dvc.lock: {error}") from None
        same = self.recorded(result.entry) == (result.params, result.hashes)
        if not (same and self.records(result.entry, result.outputs)):
            return False
        self.repo.stage_cache.save(stage)
        stage.commit(relink=False)
        if not self.caches(result.entry):  # DVC logs that and goes on
            raise PipelineError(f"DVC's cache lacks outputs of {result.entry.address}; is its disk full?")
        return True

    def _record(self, stages: list) -> None:
        """Write jobs into dvc.lock whole or not at all: DVC writes in place, and a kill would leave half a file."""
        from dvc.dvcfile import Lockfile

        lock = self.root / "dvc.lock"
        temporary = lock.with_name(".dvc.partial.lock")
        shutil.copyfile(lock, temporary) if lock.exists() else temporary.unlink(missing_ok=True)
        Lockfile(self.repo, str(temporary)).dump_stages(stages)
        flush(temporary)
        temporary.replace(lock)

    def holds_result(self, entry: StageEntry, params: dict, hashes: dict[str, str]) -> bool:
        """Whether DVC has what these parameters and contents give: by dvc.lock and its cache, or by its run cache."""
        return self._restore(entry, params, hashes, dry=True)

    def put_back(self, entry: StageEntry, params: dict, hashes: dict[str, str]) -> bool:
        """Put such a result in its place, whose old content is gone; returns whether there was one."""
        with self.repo.lock:
            return self._restore(entry, params, hashes, dry=False)

    def _restore(self, entry: StageEntry, params: dict, hashes: dict[str, str], dry: bool) -> bool:
        from dvc.stage.cache import RunCacheNotFoundError
        from dvc_data.hashfile.hash_info import HashInfo

        stage = self._stage(entry)
        recorded = [(item, item.hash_info, item.meta) for item in (*stage.deps, *stage.outs)]
        cached = all(out.use_cache and not out.changed_cache() for out in stage.outs)
        known = cached and self.knows(entry, params, hashes)
        try:
            self._tell(stage, params, hashes)
            if not known:
                for out in stage.outs:  # else DVC takes dvc.lock's outputs for those of the new inputs
                    out.hash_info = HashInfo()
            self.repo.stage_cache.restore(stage, dry=dry)
        except RunCacheNotFoundError:
            return False
        finally:
            for item, info, meta in recorded:
                item.hash_info, item.meta = info, meta
                for name in ("get_hash", "save"):
                    vars(item).pop(name, None)
        return True

    def _tell(self, stage, params: dict, hashes: dict[str, str]) -> None:
        """Let a stage's inputs be these: DVC would look at them, and at params.yaml, several times, and find others."""
        from dvc.dependency.param import ParamsDependency
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.meta import Meta

        for dep in stage.deps:
            ours = isinstance(dep, ParamsDependency)
            info = HashInfo(dep.hash_name, params if ours else hashes.get(self._place(dep)))
            dep.hash_info, dep.meta = info, Meta()  # which holds the hash, too
            dep.get_hash, dep.save = lambda info=info: info, lambda: None


def _words(found: list) -> list[str]:
    """What DVC's status says of one job, in words."""
    words = []
    for item in found:
        if not isinstance(item, dict):
            words.append(str(item))
            continue
        for kind, changes in item.items():
            for path, what in changes.items():
                keys = what.items() if isinstance(what, dict) else [(path, what)]
                words += [f"{'' if kind == 'changed deps' else 'output '}{key} {state}" for key, state in keys]
    return words
