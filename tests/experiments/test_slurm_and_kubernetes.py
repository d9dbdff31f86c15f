"""The Slurm script, the Kubernetes manifest and the pages about clusters."""

import re
import shlex
import socket
import subprocess
from types import SimpleNamespace

import pytest
import yaml
from support.clusters import (
    CLUSTERS,
    GIVEN,
    NOTE,
    ODD_FLAGS,
    SLURM,
    TPU_VM,
    calls,
    check_train_line,
    printed,
    stand_ins,
)
from support.paths import ROOT

PAGES = [ROOT / "docs" / "clusters" / f"{name}.md" for name in ("tpu_vm", "slurm", "kubernetes")]


@pytest.fixture
def cluster(tmp_path):
    return stand_ins(tmp_path)


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
        *["--kill-on-bad-exit=0", ".venv/bin/python", "-m", "unet_jax.main", "--multihost"],
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
    assert len(text.splitlines()) <= 70
    last = text.rpartition("\n## ")[2]
    assert last.startswith("What was run\n")
    assert re.search(r"Nothing\s+was\s+run\s+on\s+a\s+real", last)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_the_pages_are_right(page, cluster):
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL)
    found = 0
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
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
