"""experiments/clusters/tpu_vm.sh, with stand-ins for what TPU VMs offer."""

import re
import shutil
import subprocess
import time

import pytest
from support.clusters import (
    GIVEN,
    NOTE,
    ODD_FLAGS,
    SETTINGS,
    SLURM,
    SUBCOMMANDS,
    TPU_VM,
    calls,
    check_train_line,
    printed,
    remote,
    stand_ins,
    tpu_vm,
    train_line,
)


@pytest.fixture
def cluster(tmp_path):
    return stand_ins(tmp_path)


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
