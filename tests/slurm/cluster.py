"""A small Slurm cluster on one machine: munged, slurmctld and two slurmd, each node under a host name of its own.

As root on Debian 12:
    python tests/slurm/cluster.py install          # slurm-wlm and munge, where they are missing
    python tests/slurm/cluster.py start FOLDER     # prints the SLURM_CONF to export
    python tests/slurm/cluster.py stop FOLDER

Everything talks over loopback. Nodes have 2 CPUs, 12 GB and 8 GPUs by configuration, whatever the machine has: GPUs are
empty files, so that requests are scheduled though there is none.
"""

import argparse
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

PACKAGES = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "munged": "munge"}
NODES = ("node1", "node2")
CPUS, MEMORY_MB, GPUS = 2, 12000, 8  # a node
START_SECONDS = 90
CONFIGURATION = """\
ClusterName=pipeline
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
# Bound to the address of the host's own name: the machine's and the nodes' are all 127.0.0.1.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
# No control groups: what runs is found by parents, memory is looked at once a second.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
PropagateResourceLimits=NONE
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
# Which job ran where and how it ended, one line a job.
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdTimeout=20
KillWait=5
MinJobAge=3600
SchedulerParameters=batch_sched_delay=1,bf_interval=5
SlurmdParameters=config_overrides
"""


class Cluster:
    """One cluster in ``folder``, which holds its configuration, state and logs."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.conf = self.folder / "etc/slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        """Start anew, whatever an earlier one left; RuntimeError with the logs' ends where that fails."""
        self.stop()
        self._write_configuration()
        self._daemon("munged", "--force", f"--key-file={self.folder}/munge.key", f"--socket={self.folder}/munge.socket",
                     f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
                     f"--seed-file={self.folder}/munged.seed")  # fmt: skip
        self._daemon("slurmctld", "-c", "-f", str(self.conf))
        for node in NODES:
            self.start_node(node)
        self.wait_until_idle()

    def start_node(self, node: str) -> None:
        """slurmd in name spaces of its own: what it starts sees the node's host name, addresses and configuration.

        The last where a cluster has it: Snakemake's executor takes SLURM_CONF from its jobs.
        """
        inside = 'hostname "$1" && mount --bind "$2" /etc/hosts && mount --bind "$3" /etc/slurm && exec slurmd -N "$1"'
        self._daemon("unshare", "--uts", "--mount", "sh", "-c", inside,
                     "sh", node, str(self.folder / "hosts"), str(self.conf.parent))  # fmt: skip

    def kill_node(self, node: str) -> None:
        """SIGKILL a node's slurmd; its running jobs stay."""
        os.kill(int((self.folder / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)

    def crash_node(self, node: str) -> None:
        """SIGKILL everything that runs on a node, as a power cut does; ``start_node`` brings it back."""
        of = {process.pid: _host_name_space(process.pid) for process in self.processes()}
        gone = of[int((self.folder / f"slurmd.{node}.pid").read_text())]
        for pid, name_space in of.items():
            if name_space == gone:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()

    def wait_until_idle(self, seconds: float = START_SECONDS) -> None:
        """Until every node takes jobs."""
        deadline = time.monotonic() + seconds
        while (states := self.run("sinfo", "--noheader", "--Node", "--format=%T").split()) != ["idle"] * len(NODES):
            if time.monotonic() > deadline:
                raise RuntimeError(f"nodes are {states}, not idle\n{self.logs()}")
            time.sleep(0.5)

    def run(self, *command: str) -> str:
        """Output of a client; empty while the controller does not answer."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Jobs that have ended: JobId, Name, JobState, NodeList and more, in the order of their ends."""
        path = self.folder / "jobs.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def gpus(self, job: str) -> int:
        """How many a job was given."""
        found = re.search(r"JOB_GRES=gpu:(\d+)", self.run("scontrol", "show", "job", "--details", job))
        return int(found.group(1)) if found else 0

    def processes(self) -> list[psutil.Process]:
        """Every process of this cluster: daemons, job steps and whatever these started."""
        found, own = [], {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        for process in psutil.process_iter():
            try:
                if process.pid not in own and self._owns(process):
                    found.append(process)
            except psutil.Error:  # gone, or nobody's
                continue
        return found

    def _owns(self, process: psutil.Process) -> bool:
        if process.name() == "slurmstepd":  # writes its title over its environment; the daemons work in the folder
            return Path(process.cwd()).is_relative_to(self.folder)
        return process.environ().get("SLURM_CONF") == str(self.conf)

    def stop(self) -> None:
        """End everything of this cluster; what a crash left, too."""
        while processes := self.processes():  # again for what started meanwhile
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=10)

    def logs(self, size: int = 2000) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-size:]}" for path in sorted(self.folder.glob("*.log")))

    def _daemon(self, *command: str) -> None:
        done = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, timeout=START_SECONDS)  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{self.logs()}")

    def _write_configuration(self) -> None:
        self.conf.parent.mkdir(parents=True, exist_ok=True)
        for old in ("state", *(f"spool.{node}" for node in NODES)):
            shutil.rmtree(self.folder / old, ignore_errors=True)
        for old in (*self.folder.glob("*.log"), *self.folder.glob("*.pid"), self.folder / "jobs.txt"):
            old.unlink(missing_ok=True)
        host = socket.gethostname()
        text = CONFIGURATION.format(host=host, folder=self.folder, port=_free_port())
        for node in NODES:
            text += (
                f"NodeName={node} NodeAddr=127.0.0.1 NodeHostname={node} Port={_free_port()} CPUs={CPUS} "
                f"RealMemory={MEMORY_MB} Gres=gpu:{GPUS} State=UNKNOWN\n"
            )
        self.conf.write_text(text + "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n")
        for number in range(GPUS):  # without a file each, slurmd counts none
            (self.folder / f"gpu{number}").touch()
        gpus = f"AutoDetect=off\nName=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n"
        self.conf.with_name("gres.conf").write_text(gpus)
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {host} {' '.join(NODES)}\n")
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))


def _host_name_space(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/uts").readlink())
    except OSError:  # it has ended
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def install() -> None:
    """Debian's packages, where a program of theirs is missing; services of the packages stay stopped."""
    missing = sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})
    if missing:
        settings = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # 1: start no service
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=settings)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True, env=settings
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["install", "start", "stop", "logs"])
    parser.add_argument("folder", type=Path, nargs="?", help="holds configuration, state and logs")
    given = parser.parse_args()
    if given.action == "install":
        install()
        return
    if given.folder is None:
        parser.error(f"{given.action} needs a folder")
    cluster = Cluster(given.folder)
    if given.action == "start":
        cluster.start()
        print(f"export SLURM_CONF={cluster.conf}")
    elif given.action == "stop":
        cluster.stop()
    else:
        print(cluster.logs())


if __name__ == "__main__":
    main()
