"""The scripts and the manifest of experiments/clusters, with stand-ins for what clusters offer."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from types import SimpleNamespace

import pytest
import yaml
from conftest import ROOT

CLUSTERS = ROOT / "experiments" / "clusters"
TPU_VM, SLURM = CLUSTERS / "tpu_vm.sh", CLUSTERS / "slurm.sbatch"
PAGES = [ROOT / "docs" / f"{name}.md" for name in ("tpu_vm", "slurm", "kubernetes")]
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


@pytest.fixture
def cluster(tmp_path):
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
        for key in name[2].split(".")[1:]:
            assert f'"{key}":' in (ROOT / "configs" / "oxford_pets.py").read_text(), flag
        if flag.startswith("--config="):
            assert (ROOT / flag.removeprefix("--config=").partition(":")[0]).is_file(), flag


@pytest.mark.parametrize("script", [TPU_VM, SLURM])
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert len(script.read_text().splitlines()) <= 200


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_dry_run_prints_and_executes_nothing(cluster, subcommand):
    cluster.add("tar", NOTE)
    commands = printed(cluster, subcommand, **GIVEN, PROJECT="my project")
    assert commands
    assert not cluster.calls.exists()
    for command in commands:
        if command[0] != "tar":
            assert command[:4] == ["gcloud", "compute", "tpus", "tpu-vm"]
            assert command[-2:] == ["--zone=us-west4-a", "--project=my project"]


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_dry_run_needs_no_gcloud_and_the_rest_does(cluster, subcommand):
    alone = cluster.path / "alone"
    alone.mkdir()
    for name in ("bash", "dirname", "tr", "cat"):
        (alone / name).symlink_to(shutil.which(name))
    assert printed(cluster, subcommand, **GIVEN, PATH=str(alone))
    done = tpu_vm(cluster, subcommand, **GIVEN, PATH=str(alone))
    assert done.returncode == 2
    assert done.stderr.startswith("error: gcloud is not installed")


@pytest.mark.parametrize("subcommand", [s for s in SUBCOMMANDS if s != "resume"])
def test_what_is_printed_is_what_is_executed(cluster, subcommand):
    repo = cluster.path / "my repo"
    repo.mkdir()
    args = [subcommand, f"--repo={repo}", "--name=n", "--", *ODD_FLAGS]
    expected = [c[1:] for c in printed(cluster, *args, **GIVEN) if c[0] == "gcloud"]
    done = tpu_vm(cluster, *args, **GIVEN)
    assert done.returncode == 0, done.stderr
    assert calls(cluster) == expected


def test_create_takes_the_settings_and_flags_win(cluster):
    settings = {"ZONE": "z", "NAME": "n", "ACCELERATOR": "v6e-8", "VERSION": "v2", "SPOT": "0"}
    start = ["gcloud", "compute", "tpus", "tpu-vm", "create"]
    ours = [*start, "n", "--accelerator-type=v6e-8", "--version=v2"]
    assert printed(cluster, "create", **settings) == [[*ours, "--zone=z"]]
    assert printed(cluster, "create", "--zone=y", "--spot=1", **settings) == [
        [*ours, "--spot", "--zone=y"]
    ]
    [default] = printed(cluster, "create", ZONE="z")
    assert default[5:8] == [
        "unet-jax",
        "--accelerator-type=v5litepod-16",
        "--version=v2-alpha-tpuv5-lite",
    ]
    assert "--spot" in default


def test_run_passes_every_word_on(cluster):
    [command] = printed(cluster, "run", "--config=configs/my page.py", "--", *ODD_FLAGS, **GIVEN)
    assert "--worker=all" in command
    assert train_line(remote(command)) == [
        *[".venv/bin/python", "-m", "unet_jax.main", "--multihost"],
        *["--config=configs/my page.py", "--workdir=/mnt/bucket/my runs/pets", *ODD_FLAGS],
    ]


@pytest.mark.parametrize(
    ("settings", "workdir", "bucket"),
    [
        ({"WORKDIR": "gs://b/p/q"}, "/mnt/bucket/p/q", "b"),
        ({"BUCKET": "gs://b/", "NAME": "n"}, "/mnt/bucket/runs/n", "b"),
        ({"BUCKET": "b", "WORKDIR": "/mnt/bucket/p"}, "/mnt/bucket/p", "b"),
        ({"WORKDIR": "/mnt/disk/p"}, "/mnt/disk/p", None),
    ],
)
def test_the_bucket_is_mounted_where_the_workdir_is(cluster, settings, workdir, bucket):
    [command] = printed(cluster, "run", ZONE="z", **settings)
    line = train_line(remote(command))
    assert f"--workdir={workdir}" in line
    check_train_line(line)
    assert ("gcsfuse" in remote(command)) == (bucket is not None)
    if bucket:
        assert f" {bucket} /mnt/bucket;" in remote(command)


def test_watch_follows_worker_0(cluster):
    [command] = printed(cluster, "watch", ZONE="z")
    assert "--worker=0" in command
    assert remote(command) == "tail -n 100 -F unet_jax/train.log"


def test_only_the_users_delete_asks(cluster):
    [command] = printed(cluster, "delete", ZONE="z")
    assert "--quiet" not in command
    [command] = [c for c in printed(cluster, "resume", **GIVEN) if "delete" in c]
    assert "--quiet" in command


def wait_for(condition) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within ten seconds")


@pytest.mark.skipif(not shutil.which("flock"), reason="workers run Linux, which has flock")
def test_a_worker_mounts_starts_once_and_can_start_again(cluster):
    folder = cluster.path / "unet_jax"
    (folder / ".venv" / "bin").mkdir(parents=True)
    program = folder / ".venv" / "bin" / "python"
    program.write_text(
        '#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n'
        "for _ in {1..300}; do [[ -e stop ]] && exit; sleep 0.1; done\n"
    )
    program.chmod(0o755)
    cluster.add("mountpoint", 'test -e "$WORKER/mounted"')
    cluster.add("sudo", NOTE)
    cluster.add("gcsfuse", NOTE + 'touch "$WORKER/mounted"')
    given = GIVEN | {"WORKER": str(cluster.path), "USER": "me"}
    line = ["-m", "unet_jax.main", "--multihost", "--config=configs/oxford_pets.py"]
    line += ["--workdir=/mnt/bucket/my runs/pets", *ODD_FLAGS]
    log, text = folder / "train.log", "".join(f"{word}\n" for word in line)
    try:
        done = tpu_vm(cluster, "run", "--", *ODD_FLAGS, **given)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: log.exists() and log.read_text() == text)
        assert int((folder / "train.pid").read_text()) > 0
        mount = [call for call in calls(cluster) if call[-1] == "/mnt/bucket"]
        assert mount[0] == ["install", "-d", "-o", "me", "/mnt/bucket"]
        assert mount[1][-2:] == ["my-bucket", "/mnt/bucket"]
        done = tpu_vm(cluster, "run", "--", *ODD_FLAGS, **given)
        assert done.stdout == "It is running.\n"
        assert log.read_text() == text
        assert len([call for call in calls(cluster) if call[-1] == "/mnt/bucket"]) == 2
    finally:
        (folder / "stop").touch()

    def ran_again() -> bool:
        tpu_vm(cluster, "run", "--", *ODD_FLAGS, **given)
        return log.read_text().startswith(text * 2)

    wait_for(ran_again)


def add_python(cluster, needs: str) -> None:
    """Adds a Python that makes virtual environments once a file is there."""
    body = NOTE + f"[[ -e {needs} ]] || exit 1\n"
    body += '[[ $2 != venv ]] || { mkdir -p .venv/bin && cp "$0" .venv/bin/python; }'
    cluster.add("my_python", body)
    cluster.add("sudo", NOTE + '[[ $2 == update ]] || touch "$WORKER/from_apt"')


def test_a_directory_is_copied_and_installed(cluster):
    repo = cluster.path / "my repo"
    for name in ("a b.py", ".venv/x", "runs/x", "build/x", "unet_jax/runs/x", ".git/x"):
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).touch()
    add_python(cluster, needs='"$WORKER/from_apt"')
    given = {"WORKER": str(cluster.path), "PYTHON": "my_python", "ZONE": "z", "REPO": str(repo)}
    done = tpu_vm(cluster, "install", **given)
    assert done.returncode == 0, done.stderr
    folder = cluster.path / "unet_jax"
    assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == {
        *("a b.py", "unet_jax/runs/x", ".git/x", ".venv/bin/python", ".venv/installed"),
    }
    assert [call for call in calls(cluster) if call[0] != "compute"] == [
        ["-m", "venv", ".venv"],
        ["apt-get", "update"],
        [
            *("apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "-y"),
            *("my_python", "my_python-venv"),
        ],
        ["-m", "venv", "--clear", ".venv"],
        ["-m", "pip", "install", "--quiet", "-e", ".[tpu]", "-c", "constraints.txt"],
    ]


def test_a_git_url_is_checked_out_at_its_ref(cluster):
    repo = cluster.path / "repo"
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(repo)]
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", repo], check=True)
    for text in ("first", "second"):
        (repo / "file").write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message=m"], check=True)
    subprocess.run([*git, "tag", "old", "HEAD~1"], check=True)
    add_python(cluster, needs="/")
    given = {"WORKER": str(cluster.path), "PYTHON": "my_python", "ZONE": "z"}
    given |= {"REPO": f"file://{repo}"}
    for ref, text in (("old", "first"), ("HEAD", "second"), ("old", "first")):
        done = tpu_vm(cluster, "install", REF=ref, **given)
        assert done.returncode == 0, done.stderr
        assert (cluster.path / "unet_jax" / "file").read_text() == text


BEGIN = ["create", "scp", "install", "run"]


@pytest.mark.parametrize(
    ("env", "code", "expected"),
    [
        ({"STATE": "PREEMPTED"}, 0, ["delete", *BEGIN]),
        ({"STATE": "TERMINATED"}, 0, ["delete", *BEGIN]),
        ({"FAIL": "describe", "ERROR": "NOT_FOUND: no such node"}, 0, BEGIN),
        ({"STATE": "READY"}, 0, ["is installed", "run"]),
        ({"FAIL": "=test -e"}, 0, ["is installed", "scp", "install", "run"]),
        # Neither what is unknown nor what is on its way is deleted.
        ({"FAIL": "describe", "ERROR": "sign in again"}, 2, []),
        ({"STATE": "CREATING"}, 2, []),
        # What failed ends it.
        ({"STATE": "PREEMPTED", "FAIL": "delete"}, 1, ["delete"]),
        ({"STATE": "PREEMPTED", "FAIL": "create"}, 1, ["delete", "create"]),
        ({"STATE": "PREEMPTED", "FAIL": " scp "}, 1, ["delete", "create", "scp"]),
        ({"FAIL": "=test -e| scp "}, 1, ["is installed", "scp"]),
    ],
)
def test_resume_does_what_the_state_asks_for(cluster, env, code, expected):
    repo = cluster.path / "repo"
    repo.mkdir()
    flags = [f"--repo={repo}", "resume", "--", *ODD_FLAGS]
    done = tpu_vm(cluster, *flags, **GIVEN, **env)
    assert done.returncode == code, done.stderr
    names = []
    for call in calls(cluster):
        action = call[3]
        if action == "ssh":
            script = next(word for word in call if word.startswith("--command="))
            action = "run" if "nohup" in script else "install" if "pip" in script else ""
            action = action or "is installed"
        names.append(action)
    assert names == ["describe", *expected]
    if "run" in names:
        [again] = printed(cluster, "run", "--", *ODD_FLAGS, **GIVEN)
        assert calls(cluster)[-1] == again[1:]
    if code == 2:
        assert "error: " in done.stderr


@pytest.mark.parametrize(
    ("args", "env", "words"),
    [
        (["create"], {}, ["ZONE is not set", "--zone=us-west4-a"]),
        (["run"], {"ZONE": "z"}, ["WORKDIR is not set", "--workdir=gs://"]),
        (["resume"], {"ZONE": "z"}, ["WORKDIR is not set", "--workdir=gs://"]),
        (["run", "--workdir=runs/x"], {"ZONE": "z"}, ["WORKDIR=runs/x", "--workdir=gs://"]),
        (["run", "--workdir=gs://b"], {"ZONE": "z"}, ["WORKDIR=gs://b", "gs://my-bucket/"]),
        (["run", "--workdir=gs://b/p"], {"ZONE": "z", "BUCKET": "c"}, ["BUCKET=c"]),
        (["create", "--spot=yes"], {"ZONE": "z"}, ["SPOT=yes", "--spot=1"]),
        (["install", "--repo=/none"], {"ZONE": "z"}, ["REPO=/none", "--repo=https://"]),
        (["create", "--zones=z"], {"ZONE": "z"}, ["--zones=z", "--help"]),
        (["create", "run"], {"ZONE": "z"}, ["create and run"]),
        ([], {"ZONE": "z"}, ["no subcommand", "resume"]),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_mistake_is_one_clear_line(cluster, args, env, words, dry_run):
    done = tpu_vm(cluster, *["--dry_run"][: int(dry_run)], *args, **env)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not done.stdout
    assert not cluster.calls.exists()


def test_help_names_every_setting(cluster):
    text = tpu_vm(cluster, "--help").stdout
    for name in SETTINGS:
        assert re.search(rf"^  {name} ", text, flags=re.MULTILINE), name
        assert f"--{name.lower()}=*" in TPU_VM.read_text()
    for name in SUBCOMMANDS:
        assert re.search(rf"^  {name} ", text, flags=re.MULTILINE), name


# Slurm


def test_slurm_options_are_known():
    lines = re.findall(r"^#SBATCH (.*)$", SLURM.read_text(), flags=re.MULTILINE)
    options = dict(line.removeprefix("--").partition("=")[::2] for line in lines)
    assert all(line.startswith("--") for line in lines)
    assert set(options) == {
        *("job-name", "nodes", "ntasks-per-node", "gres", "cpus-per-task", "time", "output"),
        *("open-mode", "requeue", "signal"),
    }
    assert options["open-mode"] == "append"
    assert options["signal"] == "TERM@120"
    # jax gives task i of a node its GPU i, so there are as many tasks as GPUs.
    assert options["gres"] == f"gpu:{options['ntasks-per-node']}"
    # Slurm stops reading them at the first command.
    before = SLURM.read_text().partition("\nset ")[0]
    assert before.count("\n#SBATCH") == len(lines)


def slurm(cluster, code: int, *flags: str, **env: str) -> subprocess.CompletedProcess:
    cluster.add("srun", f'{NOTE}echo "cpus: $SRUN_CPUS_PER_TASK"; exit {code}')
    cluster.add("scontrol", 'set -- scontrol "$@"\n' + NOTE)
    env = cluster.env | {"SLURM_JOB_ID": "17"} | env
    return subprocess.run(
        ["bash", SLURM, *flags], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("code", [0, 1, 2, 3, 134, 137, 143])
def test_slurm_requeues_after_143_alone(cluster, code):
    assert slurm(cluster, code, *ODD_FLAGS).returncode == code
    first, *rest = calls(cluster)
    assert first == [
        *["--kill-on-bad-exit=1", ".venv/bin/python", "-m", "unet_jax.main", "--multihost"],
        *["--config=configs/oxford_pets.py", "--workdir=runs/pets", *ODD_FLAGS],
    ]
    assert rest == ([["scontrol", "requeue", "17"]] if code == 143 else [])


def test_slurm_settings_and_the_limit_of_requeues(cluster):
    env = {"CONFIG": "configs/tiny.py", "WORKDIR": "/my disk/run", "PYTHON": "python3"}
    env |= {"MAX_REQUEUES": "2", "SLURM_CPUS_PER_TASK": "8"}
    for count in ("1", "2"):
        done = slurm(cluster, 143, **env, SLURM_RESTART_COUNT=count)
        assert done.returncode == 143
        assert done.stdout.startswith("cpus: 8\n")
    first, requeue, second = calls(cluster)
    assert requeue == ["scontrol", "requeue", "17"]
    assert first == second
    assert first[1:] == [
        *["python3", "-m", "unet_jax.main", "--multihost"],
        *["--config=configs/tiny.py", "--workdir=/my disk/run"],
    ]
    check_train_line(first)


# Kubernetes


@pytest.fixture
def manifest():
    documents = list(yaml.safe_load_all((CLUSTERS / "jobset.yaml").read_text()))
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


def test_names_in_the_manifest_fit_each_other(manifest):
    assert manifest["JobSet"]["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    account = manifest["ServiceAccount"]["metadata"]["name"]
    role = manifest["Role"]["metadata"]["name"]
    binding = manifest["RoleBinding"]
    assert binding["roleRef"]["name"] == role
    assert binding["roleRef"]["kind"] == "Role"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    [replicated] = manifest["JobSet"]["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert pod["serviceAccountName"] == account
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claim = volumes["shared"]["persistentVolumeClaim"]["claimName"]
    assert claim == manifest["PersistentVolumeClaim"]["metadata"]["name"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == set(volumes)
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert 143 not in rule["onExitCodes"]["values"]
    assert job["parallelism"] == job["completions"]
    assert (replicated["replicas"], job["backoffLimit"]) == (1, 0)
    assert job["completionMode"] == "Indexed"
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    assert pod["terminationGracePeriodSeconds"] == 120
    assert manifest["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert manifest["JobSet"]["spec"]["failurePolicy"]["maxRestarts"] > 0
    command = container["command"]
    check_train_line(command)
    assert "--multihost" in command
    for flag in ("--workdir", "--config.data.path"):
        [value] = [word for word in command if word.startswith(f"{flag}=")]
        assert value.startswith(f"{flag}={mounts['shared']}/")


def test_jax_finds_its_processes_with_what_the_manifest_allows(manifest, monkeypatch):
    from jax._src.clusters.cluster import ClusterEnv
    from jax._src.clusters.k8s_cluster import K8sCluster

    jobset = manifest["JobSet"]["metadata"]["name"]
    [replicated] = manifest["JobSet"]["spec"]["replicatedJobs"]
    name = f"{jobset}-{replicated['name']}-0"  # as the JobSet controller names the Job
    owner = SimpleNamespace(controller=True, kind="Job")
    pod = SimpleNamespace(
        metadata=SimpleNamespace(labels={"job-name": name}, owner_references=[owner])
    )
    labels = {"jobset.sigs.k8s.io/jobset-name": jobset}
    job = SimpleNamespace(
        metadata=SimpleNamespace(name=name, labels=labels),
        spec=SimpleNamespace(parallelism=replicated["template"]["spec"]["parallelism"]),
    )
    used = set()

    def answer(resource, verb, value):
        return lambda **_: used.add((resource, verb)) or value

    # A subclass has caches of its own; jax keeps a list of all of them.
    monkeypatch.setattr(ClusterEnv, "_cluster_types", list(ClusterEnv._cluster_types))

    class Pod(K8sCluster):
        _ApiException = KeyError
        _core_api = SimpleNamespace(
            list_namespaced_pod=answer("pods", "list", SimpleNamespace(items=[pod]))
        )
        _batch_api = SimpleNamespace(read_namespaced_job=answer("jobs", "get", job))

        @classmethod
        def _namespace(cls):
            return "default"

    monkeypatch.setenv("HOSTNAME", f"{name}-1")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "10.0.0.1")
    address = Pod.get_coordinator_address(timeout_secs=None, override_coordinator_port=None)
    assert address == "unet-jax-train-0-0.unet-jax:55527"
    assert address.replace(":55527", "`, port 55527") in PAGES[2].read_text()
    assert (Pod.get_process_id(), Pod.get_process_count()) == (1, 2)
    assert Pod.get_local_process_id() is None  # so the process has all GPUs of its pod
    allowed = {
        (resource, verb)
        for rule in manifest["Role"]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert used == allowed


# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_short_and_say_what_was_run(page):
    text = page.read_text()
    assert len(text.splitlines()) <= 60
    last = text.rpartition("\n## ")[2]
    assert last.startswith("What was run\n")
    assert re.search(r"Nothing\s+was\s+run\s+on\s+a\s+real", last)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_the_pages_are_right(page, cluster):
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL)
    found = 0
    for line in "".join(blocks).splitlines():
        words = shlex.split(line.replace("; do ", " ").replace("; done", ""), comments=True)
        flags = []
        if str(TPU_VM.relative_to(ROOT)) in words:
            start = words.index(str(TPU_VM.relative_to(ROOT)))
            args = [word for word in words[start + 1 :] if word != "--dry_run"]
            flags = args[args.index("--") + 1 :] if "--" in args else []
            assert printed(cluster, *args, **GIVEN), line
        elif words[:1] == ["sbatch"]:
            assert words[1] == str(SLURM.relative_to(ROOT))
            flags = words[2:]
        elif "unet_jax.main" in words:
            flags = words[words.index("unet_jax.main") + 1 :]
        else:
            continue
        found += 1
        check_train_line(["-m", "unet_jax.main", *flags])
    assert found
