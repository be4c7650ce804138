"""The runner: declared parameters only, outputs whole or not at all, errors in one line."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import pipeline.__main__ as command_line
import pipeline.stages
from pipeline import runner
from pipeline.engine.costs import shard_costs
from pipeline.errors import PipelineError

ROOT = Path(__file__).resolve().parents[1]
DVC_YAML = """
stages:
  fake:
    cmd: python -m pipeline fake
    deps: [input.txt, stages/fake.py]
    params: [clips, world.seed, evaluation.minimum]
    outs: [out/one.txt, out/folder]
"""
GOOD = """
def add_arguments(parser):
    pass

def run(stage):
    one, folder = stage.outputs
    one.write_text(stage.inputs[0].read_text())
    folder.mkdir()
    (folder / "part").write_text(str(stage.params.clips.frames))
"""
# Starts the command line with the project's own folder of stages in place of the package's.
START = (
    "import sys, pathlib, pipeline.stages; folder = pathlib.Path('stages').resolve();"
    "pipeline.stages.__path__.insert(0, str(folder)); import pipeline.__main__ as main; main.STAGES = folder;"
    "sys.exit(main.main(sys.argv[1:]))"
)


class Project:
    """A DVC project of one stage, whose body each test writes."""

    def __init__(self, path: Path):
        self.path = path
        (path / ".dvc").mkdir()
        (path / ".dvc/config").write_text("[core]\n    no_scm = True\n    analytics = false\n")
        (path / "dvc.yaml").write_text(DVC_YAML)
        (path / "input.txt").write_text("content")
        shutil.copy(ROOT / "presets/demo.yaml", path / "params.yaml")
        (path / "stages").mkdir()
        self.body(GOOD)

    def body(self, text: str) -> None:
        (self.path / "stages/fake.py").write_text(text)

    def lines(self, *lines: str) -> None:
        """A body of these lines."""
        self.body(
            "def add_arguments(parser):\n    pass\n\ndef run(stage):\n" + "".join(f"    {line}\n" for line in lines)
        )

    def start(self, *arguments: str) -> subprocess.Popen:
        environment = {
            **os.environ,
            "PIPELINE_TRACKING": "off",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environment.pop("DVC_ROOT", None)
        return subprocess.Popen(
            [sys.executable, "-c", START, *arguments], cwd=self.path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # A shell's background job ignores SIGINT, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def outputs(self) -> list[str]:
        """All that lies in the folder of the outputs, temporary or not."""
        return sorted(str(path.relative_to(self.path / "out")) for path in (self.path / "out").rglob("*"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (*runner.ONE_THREAD, *runner.OFFLINE, "PIPELINE_TRACKING"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("PIPELINE_TRACKING", "off")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(pipeline.stages, "__path__", [str(tmp_path / "stages"), *pipeline.stages.__path__])
    monkeypatch.setattr(command_line, "STAGES", tmp_path / "stages")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    handlers, handler = logging.getLogger().handlers[:], signal.getsignal(signal.SIGTERM)
    yield Project(tmp_path)
    logging.getLogger().handlers[:] = handlers
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(project, capsys):
    """Runs the stage in this process: (exit code, what it printed as errors)."""

    def call(*arguments: str) -> tuple[int, str]:
        sys.modules.pop("pipeline.stages.fake", None)
        code = command_line.main(["fake", *arguments])
        return code, capsys.readouterr().err

    yield call
    sys.modules.pop("pipeline.stages.fake", None)


def one_line(errors: str) -> str:
    """The error line of a failed command, which must be the only one and no traceback."""
    lines = [line for line in errors.splitlines() if line.strip()]
    assert "Traceback" not in errors and len(lines) == 1 and lines[0].startswith("error: "), errors
    return lines[0]


def test_good_stage_has_its_outputs_under_their_names_and_nothing_else(project, run):
    code, errors = run()
    assert (code, errors) == (0, "")
    assert project.outputs() == ["folder", "folder/part", "one.txt"]
    assert (project.path / "out/folder/part").read_text() == "16"
    (kept,) = (project.path / ".state/fake/all").glob("*/done")
    assert kept.is_dir(), "until dvc.lock has it"


@pytest.mark.parametrize(("read", "key"), [
    ("stage.params.world.size", "world.size"),
    ("stage.params.moments.clips", "moments"),
    ("stage.params.evaluation.seeds", "evaluation.seeds"),
    ("stage.params.runs['svd-finetune-standard']", "runs"),
    ("stage.params.runtime.device", "runtime"),
])  # fmt: skip
def test_undeclared_parameter_is_an_error_that_names_the_key(project, run, read, key):
    project.lines(read)
    code, errors = run()
    assert code == 1
    assert f"stage fake read the parameter {key}, which dvc.yaml does not declare" in one_line(errors)


def test_declared_parameters_and_runtime_are_readable(project, run):
    project.lines(
        "values = [stage.params.clips.codec.format, stage.params.world.seed, stage.params.evaluation.minimum]",
        "values += [stage.runtime.device, stage.runtime.log_level, stage.workers > 0, stage.device]",
        "stage.outputs[0].write_text(repr(values)); stage.outputs[1].mkdir()",
    )
    assert run()[0] == 0
    found = eval((project.path / "out/one.txt").read_text())
    assert found[:6] == ["png", 0, 256, "auto", "INFO", True] and found[6] in ("cpu", "cuda")


FAILURES = {
    "error for people": ("raise PipelineError('the clip 7 is broken')", "error: the clip 7 is broken"),
    "full disk": ("raise OSError(28, 'No space left on device')", "no space left on the disk"),
    "full disk of safetensors": (
        "from safetensors import SafetensorError; "
        "raise SafetensorError('Error while serializing: I/O error: No space left on device (os error 28)')",
        "no space left on the disk",
    ),
    "one output not written": ("stage.outputs[1].rmdir()", "ended without writing folder"),
}


@pytest.mark.parametrize("before", [False, True], ids=["first run", "over older outputs"])
@pytest.mark.parametrize("failure", FAILURES)
def test_failed_stage_leaves_nothing_new_and_says_one_line(project, run, failure, before):
    older = []
    if before:
        run()
        older = project.outputs()
        (project.path / "input.txt").write_text("newer")
    action, says = FAILURES[failure]
    project.lines(
        "from pipeline.errors import PipelineError",
        "stage.outputs[0].write_text('half')",
        "stage.outputs[1].mkdir()",
        action,
    )
    code, errors = run()
    assert code == 1 and says in one_line(errors)
    assert project.outputs() == older
    assert not before or (project.path / "out/one.txt").read_text() == "content"


def test_error_of_our_own_keeps_its_traceback_and_leaves_nothing(project, run):
    project.lines("stage.outputs[0].write_text('half')", "1 / 0")
    with pytest.raises(ZeroDivisionError):
        run()
    assert project.outputs() == []


def test_second_run_replaces_outputs_whole(project, run):
    run()
    project.body(GOOD.replace('"part"', '"other"'))
    assert run()[0] == 0
    assert project.outputs() == ["folder", "folder/other", "one.txt"]


def test_missing_input_is_named_with_what_makes_it(project, run):
    (project.path / "input.txt").unlink()
    code, errors = run()
    assert code == 1 and "fake needs input.txt; `dvc repro fake`" in one_line(errors)


def test_command_that_dvc_yaml_does_not_list_shows_what_it_lists(project, run):
    (project.path / "dvc.yaml").write_text(DVC_YAML.replace("pipeline fake", "pipeline fake --name x"))
    project.body(GOOD.replace("    pass", "    parser.add_argument('--name')"))
    code, errors = run("--name", "y")
    assert code == 1 and "no stage of dvc.yaml has the command `python -m pipeline fake --name y`" in errors
    assert "  python -m pipeline fake --name x" in errors and "Traceback" not in errors


@pytest.mark.parametrize(("text", "says"), [
    (None, "params.yaml"), ("a: [", "params.yaml"), ("{}", "params.yaml"), ("- 1", "params.yaml"), ("", "params.yaml"),
])  # fmt: skip
def test_broken_params_are_an_error_and_no_traceback(project, run, text, says):
    path = project.path / "params.yaml"
    path.unlink() if text is None else path.write_text(text)
    code, errors = run()
    assert code == 1 and errors.startswith("error: ") and says in errors and "Traceback" not in errors


def test_folder_without_a_project_is_an_error_and_no_traceback(project, run):
    shutil.rmtree(project.path / ".dvc")
    code, errors = run()
    assert code == 1 and "run this in the project's folder" in one_line(errors)


@pytest.mark.parametrize("arguments", [["no-such-stage"], ["fakes"]])
def test_unknown_command_exits_with_two_and_shows_the_commands(project, capsys, arguments):
    assert command_line.main(arguments) == 2
    assert f"{arguments[0]!r} is not a command" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=["TERM", "KILL", "INT"])
def test_killed_stage_leaves_no_output_and_the_next_run_clears_up(project, run, number):
    project.lines(
        "import time",
        "stage.outputs[0].write_text('half')",
        "stage.outputs[1].mkdir()",
        "(stage.outputs[1] / 'part').write_text('half')",
        "stage.inputs[0].with_name('started').touch()",
        "time.sleep(60)",
    )
    process = project.start("fake")
    deadline = time.monotonic() + 60
    while not (project.path / "started").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not (project.path / "out/one.txt").exists() and not (project.path / "out/folder").exists()
    if number != signal.SIGKILL:
        assert project.outputs() == []
    project.body(GOOD)
    assert run()[0] == 0
    assert project.outputs() == ["folder", "folder/part", "one.txt"]


def test_command_in_a_process_of_its_own_exits_with_one_and_one_line(project):
    project.lines("stage.params.moments")
    process = project.start("fake")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "read the parameter moments" in one_line(errors)


def test_cuda_without_a_gpu_is_an_error_for_people(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    stage = runner.Stage("fake", None, None, SimpleNamespace(device="cuda", workers=3), [], [], Path(), None, None)
    assert stage.workers == 3
    with pytest.raises(PipelineError, match=r"runtime\.device is cuda, but torch sees no GPU"):
        _ = stage.device


def test_workers_are_the_cores_of_the_job_and_not_of_the_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    stage = runner.Stage("fake", None, None, SimpleNamespace(device="cpu", workers=0), [], [], Path(), None, None)
    assert stage.workers == 3


def test_a_result_that_is_taken_back_is_recorded_without_a_cost(project, run, monkeypatch):
    told = []
    record = SimpleNamespace(outputs=lambda hashes: None, finish=lambda *end: told.append(end))
    monkeypatch.setattr(runner.tracking, "open_record", lambda *args, **kwargs: record)
    run()
    shutil.rmtree(project.path / "out")
    assert run()[0] == 0 and project.outputs() == ["folder", "folder/part", "one.txt"]
    (first, costs), second = told
    assert first == "FINISHED" and costs[0]["wall_s"] > 0
    assert second == ("FINISHED", []), "it would look as if it had taken no time"


def test_a_cost_that_a_power_cut_left_empty_is_left_out(tmp_path):
    (tmp_path / "costs").mkdir()
    (tmp_path / "costs/0-of-2-1.json").write_text('{"wall_s": 2.0, "peak_memory_mb": 5.0}')
    (tmp_path / "costs/1-of-2-1.json").touch()
    assert shard_costs(tmp_path) == [{"wall_s": 2.0, "peak_memory_mb": 5.0}]


def test_commit_is_none_where_there_is_no_git(tmp_path, monkeypatch):
    assert runner.git_commit(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert runner.git_commit(tmp_path) is None
