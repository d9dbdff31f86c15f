"""Stand-ins for what clusters offer, for the scripts of experiments/clusters."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

from support.paths import ROOT
from unet_jax.page import load_page

CLUSTERS = ROOT / "experiments" / "clusters"
TPU_VM, SLURM = CLUSTERS / "tpu_vm.sh", CLUSTERS / "slurm.sbatch"
SUBCOMMANDS = ["create", "install", "run", "watch", "resume", "delete"]
SETTINGS = [
    *("NAME", "ZONE", "ACCELERATOR", "VERSION", "PROJECT", "SPOT", "REPO", "REF", "BUCKET"),
    *("WORKDIR", "CONFIG", "PYTHON"),
]
OF_SLURM = ["MAX_REQUEUES", "SLURM_RESTART_COUNT", "SLURM_CPUS_PER_TASK"]
ODD_FLAGS = ["--config.train.duration=2 epochs", "--a='b' \"c\"", "--d=$HOME;*&#\\", "", "--é=~"]
GIVEN = {"ZONE": "us-west4-a", "WORKDIR": "gs://my-bucket/my runs/pets"}

# A program that writes down how it was called, and ends.
NOTE = """{ printf '%s\\0' "$@"; printf '\\001\\0'; } >> "$CALLS"\n"""
# Does, after that, what a real one would, with a folder of this machine as the worker.
GCLOUD = (
    NOTE
    + """
[[ -z ${FAIL:-} || ! "$*" =~ $FAIL ]] || { echo "ERROR: ${ERROR:-failed}" >&2; exit 1; }
case $4 in
  describe) echo "WARNING: old" >&2; echo "${STATE:-READY}" ;;
  scp) [[ -z ${WORKER:-} ]] || cp "$5" "$WORKER/${6#*:}" ;;
  ssh) [[ -z ${WORKER:-} ]] || { cd "$WORKER" && bash -c "${7#--command=}"; } ;;
esac
"""
)


def stand_ins(tmp_path: Path) -> SimpleNamespace:
    """Returns an environment in which programs of a cluster are stand-ins, and a way to add one."""
    (tmp_path / "bin").mkdir()

    def add(name: str, body: str) -> None:
        file = tmp_path / "bin" / name
        file.write_text(f"#!{shutil.which('bash')}\n{body}\n")
        file.chmod(0o755)

    env = {k: v for k, v in os.environ.items() if k not in [*SETTINGS, *OF_SLURM]}
    env |= {"PATH": f"{tmp_path / 'bin'}:{env['PATH']}", "CALLS": str(tmp_path / "calls")}
    env |= {"TMPDIR": str(tmp_path)}
    add("gcloud", GCLOUD)
    return SimpleNamespace(env=env, add=add, calls=tmp_path / "calls", path=tmp_path)


def calls(cluster) -> list[list[str]]:
    if not cluster.calls.exists():
        return []
    text = cluster.calls.read_bytes().decode()
    return [call.split("\0")[:-1] for call in text.split("\1\0")[:-1]]


def tpu_vm(cluster, *args: str, **env: str) -> subprocess.CompletedProcess:
    line = [str(TPU_VM), *args]
    return subprocess.run(line, env=cluster.env | env, capture_output=True, text=True, timeout=60)


def printed(cluster, *args: str, **env: str) -> list[list[str]]:
    done = tpu_vm(cluster, "--dry_run", *args, **env)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line, comments=True) for line in done.stdout.splitlines()]
    return [line for line in lines if line]


def remote(command: list[str]) -> str:
    [value] = [word for word in command if word.startswith("--command=")]
    return value.removeprefix("--command=")


def train_line(command: str) -> list[str]:
    """Returns the line that starts the program, out of the commands for a worker."""
    words = shlex.split(command)
    start = words.index("nohup") + 1
    return words[start : words.index(">>", start)]


def check_train_line(words: list[str]) -> None:
    """Checks that a line starts the program, with flags and keys that there are."""
    source = (ROOT / "unet_jax" / "main.py").read_text()
    known = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
    start = words.index("-m")
    assert words[start + 1] == "unet_jax.main"
    for flag in words[start + 2 :]:
        name = re.fullmatch(r"--(\w+)((?:\.\w+)*)(=.*)?", flag, flags=re.DOTALL)
        assert name, flag
        assert name[1] in known, flag
        section = load_page(str(ROOT / "configs" / "oxford_pets.py"))
        for key in name[2].split(".")[1:]:
            assert key in section, flag
            section = section[key]
        if flag.startswith("--config="):
            assert (ROOT / flag.removeprefix("--config=").partition(":")[0]).is_file(), flag
