"""A Slurm of this machine alone, from the distribution's packages, for tests and for trying it.

python tests/support/slurm_cluster.py

Takes root, slurmctld, slurmd, munged (Debian: slurm-wlm and munge). Everything listens on 127.0.0.1
only. Nodes have one processor each and are called 127.0.0.1, 127.0.0.2 and so on: processes of a
job look for each other by the names of their nodes.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
# A lost node is down some time after SlurmdTimeout and MessageTimeout; what is requeued waits for
# cred_expire; what does not end at SIGTERM has KillWait left.
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=5
KillWait=2
MessageTimeout=5
TCPTimeout=1
MinJobAge=5
SchedulerParameters=bf_interval=2,sched_interval=2
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""


class Cluster(NamedTuple):
    """What was started.

    Attributes:
        env: Variables with which commands find it.
        nodes: The daemons of the nodes, by name.
    """

    env: dict[str, str]
    nodes: dict[str, subprocess.Popen]

    def kill_node(self, name: str, job: str) -> None:
        """Does to a node what a power cut does: its daemon and a job's processes are gone.

        Args:
            name: Of the node.
            job: Slurm's number of the job that runs there.
        """
        self.nodes[name].kill()
        marks = {f"SLURMD_NODENAME={name}".encode(), f"SLURM_JOB_ID={job}".encode()}
        there = [pid for pid in _listed("pgrep", ".") if marks <= _environment(pid)]
        steps = _listed("pgrep", "-f", rf"^slurmstepd: \[{job}\.")
        # The daemons of the job's steps go first, since they would report what became of it.
        lost = [step for step in steps if {*_listed("pgrep", "-P", step)} & {*there}]
        for pid in [*lost, *there]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _listed(*line: str) -> list[str]:
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.split()


def _environment(pid: str) -> set[bytes]:
    with contextlib.suppress(OSError):
        return {*Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
    return set()


def missing() -> str:
    """Returns why there can be no Slurm here; "" if there can."""
    without = [program for program in PROGRAMS if not shutil.which(program)]
    if without:
        return f"needs {', '.join(without)}"
    return "" if os.geteuid() == 0 else "takes root"


@contextlib.contextmanager
def slurm_cluster(folder: Path, nodes: int = 2) -> Iterator[Cluster]:
    """Starts a Slurm and ends it.

    Args:
        folder: For its files; must be empty.
        nodes: How many.

    Yields:
        What was started.
    """
    ports = _free_ports(1 + nodes)
    host, names = socket.gethostname(), [f"127.0.0.{n}" for n in range(1, 1 + nodes)]
    lines = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1"
        for name, port in zip(names, ports[1:], strict=True)
    ]
    config = folder / "slurm.conf"
    text = CONFIG.format(host=host, ports=ports, folder=folder, nodes="\n".join(lines))
    config.write_text(text)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    env = {"SLURM_CONF": str(config)}
    files = ("key-file", "socket", "pid-file", "log-file", "seed-file")
    munge = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in files]
    with contextlib.ExitStack() as stack:

        def start(name: str, *line: str) -> subprocess.Popen:
            with (folder / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(line, env=os.environ | env, stdout=log, stderr=log)
            stack.callback(_end, process)
            return process

        start("munged", "munged", "--foreground", "--force", *munge)  # folders may be private
        start("slurmctld", "slurmctld", "-D")
        daemons = {name: start(name, "slurmd", "-D", "-N", name) for name in names}
        _wait_until_idle(os.environ | env, nodes)
        stack.callback(_cancel_all, os.environ | env)
        yield Cluster(env, daemons)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cancel_all(env: dict[str, str], limit: float = 10.0) -> None:
    """Cancels all jobs and waits for their ends, which take the nodes' daemons."""
    deadline = time.monotonic() + limit
    subprocess.run(["scancel", "--me"], env=env, check=False)
    line = ["squeue", "--noheader", "--me"]
    while time.monotonic() < deadline:
        if not subprocess.run(line, env=env, capture_output=True, check=False).stdout:
            return
        time.sleep(0.2)


def _wait_until_idle(env: dict[str, str], nodes: int, limit: float = 30.0) -> None:
    deadline = time.monotonic() + limit
    line = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    while time.monotonic() < deadline:
        shown = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
        if len(shown.stdout.split()) == nodes:
            return
        time.sleep(0.2)
    raise TimeoutError(f"Slurm has not started: {shown.stdout}{shown.stderr}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


def main() -> None:
    """Opens a shell in which sbatch and its like use a Slurm of this machine."""
    if missing():
        sys.exit(f"error: a Slurm of this machine {missing()}.")
    with tempfile.TemporaryDirectory() as folder, slurm_cluster(Path(folder)) as cluster:
        subprocess.run([os.environ.get("SHELL", "sh")], env=os.environ | cluster.env, check=False)


if __name__ == "__main__":
    main()
