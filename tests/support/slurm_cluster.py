"""A Slurm of this machine alone, from the distribution's packages, for tests and for trying it.

python tests/support/slurm_cluster.py

Takes root, slurmctld, slurmd, munged (Debian: slurm-wlm and munge). Everything listens on 127.0.0.1
only. Nodes have one processor each and are called n0, n1, ...
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

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
# A lost node is down after SlurmdTimeout, and what is requeued waits for cred_expire.
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
MinJobAge=5
SchedulerParameters=bf_interval=2,sched_interval=2
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""


class Cluster(NamedTuple):
    """What was started.

    Attributes:
        env: Variables with which commands find it.
        nodes: The processes of the nodes.
    """

    env: dict[str, str]
    nodes: list[subprocess.Popen]

    def kill_node(self, index: int, job: str) -> None:
        """Does to a node what a power cut does: its daemon and a job's processes are gone.

        Args:
            index: Of the node.
            job: Slurm's number of the job that runs there.
        """
        self.nodes[index].kill()
        env = os.environ | self.env
        shown = subprocess.run(
            ["pgrep", "-f", rf"^slurmstepd: \[{job}\."], env=env, capture_output=True, text=True
        )
        for step in shown.stdout.split():
            children = subprocess.run(["pgrep", "-P", step], capture_output=True, text=True)
            for pid in [step, *children.stdout.split()]:
                os.kill(int(pid), signal.SIGKILL)


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
    host = socket.gethostname()
    lines = [
        f"NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1"
        for n, port in enumerate(ports[1:])
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
        daemons = [start(f"n{n}", "slurmd", "-D", "-N", f"n{n}") for n in range(nodes)]
        _wait_until_idle(os.environ | env, nodes)
        yield Cluster(env, daemons)
        subprocess.run(["scancel", "--me"], env=os.environ | env, check=False)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
