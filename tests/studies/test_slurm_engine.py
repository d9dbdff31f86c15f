"""The Slurm engine, with stand-ins for Slurm's programs and with a real Slurm where it can run."""

import json
import subprocess
import sys
import time

import pytest
from support import slurm_cluster
from support.clusters import NOTE, calls, stand_ins
from support.engine_jobs import (
    ONE_DEVICE,
    SAVED,
    check_trained,
    continue_after_a_loss,
    stoppable,
    training,
    wait_until,
)

from unet_jax.errors import UserError
from unet_jax.studies.engines import slurm
from unet_jax.studies.engines.base import Job
from unet_jax.studies.engines.slurm import Slurm

# They keep the queue in a file, in the form that squeue is asked for.
SBATCH = f"""set -- sbatch "$@"
{NOTE}
[[ -z ${{REFUSE:-}} ]] || {{
  echo "sbatch: error: invalid partition specified: nope" >&2
  echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
  exit 1
}}
for arg; do
  case $arg in
    --job-name=*) name=${{arg#*=}} ;;
    --array=*) last=${{arg#--array=0-}} ;;
  esac
done
count=$(cut -d_ -f1 "$QUEUE" | sort -u | wc -l)
for i in $(seq 0 "${{last%%%*}}"); do
  echo "$((count + 17))_$i PENDING $name" >> "$QUEUE"
done
echo $((count + 17))
"""
SQUEUE = """
[[ ! -e $QUEUE.down ]] || {
  echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
  exit 1
}
cat "$QUEUE"
"""
SCANCEL = f"""set -- scancel "$@"
{NOTE}
case $* in
  *--state=PENDING*) sed -i 's/ PENDING / CANCELLED /' "$QUEUE" ;;
  *--signal=USR2*) [[ -n ${{STUBBORN:-}} ]] || sed -i 's/ RUNNING / FAILED /' "$QUEUE" ;;
  *) sed -i 's/ RUNNING / CANCELLED /' "$QUEUE" ;;
esac
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    found = stand_ins(tmp_path)
    found.queue = tmp_path / "queue"
    found.queue.touch()
    for name, body in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL}.items():
        found.add(name, body)
    for name in ("PATH", "CALLS"):
        monkeypatch.setenv(name, found.env[name])
    monkeypatch.setenv("QUEUE", str(found.queue))
    found.folder = tmp_path / "my study" / "engine"
    return found


def job(cluster, name, *command):
    folder = cluster.folder.parent / name
    return Job(name, command or ("true", "a b", "'$x'\n"), folder / "job.log", (folder,))


def set_states(cluster, *states):
    lines = cluster.queue.read_text().splitlines()
    words = [line.split(maxsplit=2) for line in lines]
    new = [f"{task} {state} {name}\n" for (task, _, name), state in zip(words, states, strict=True)]
    cluster.queue.write_text("".join(new))


def submitted(cluster):
    return [call[1:] for call in calls(cluster) if call[0] == "sbatch"]


def test_an_array_is_submitted_with_its_options(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [job(cluster, "a=1"), job(cluster, "packs/12ab")]
    engine = Slurm(cluster.folder, "--partition='my gpus' --gres=gpu:1", max_parallel=3, every=0)
    engine.submit(jobs)
    assert engine.watch() == {"a=1": "waiting", "packs/12ab": "waiting"}
    [args] = submitted(cluster)
    options = dict(arg.partition("=")[::2] for arg in args)
    [array] = (cluster.folder / "slurm").iterdir()
    command = [sys.executable, "-m", "unet_jax.studies.engines.slurm_task", f"'{array}'"]
    assert options == {
        "--parsable": "",
        "--job-name": f"my study/{array.name}",
        "--array": "0-1%3",
        "--requeue": "",
        "--signal": "B:USR1@120",
        "--open-mode": "append",
        "--output": f"{array}/%a.out",
        "--chdir": str(tmp_path),
        "--partition": "my gpus",
        "--gres": "gpu:1",
        "--wrap": f"exec {' '.join(command)}",
    }
    found = json.loads((array / "jobs.json").read_text())
    assert [(j["name"], tuple(j["command"]), j["log"]) for j in found] == [
        (j.name, j.command, str(j.log)) for j in jobs
    ]


def test_what_waits_or_runs_is_not_submitted_again(cluster):
    jobs = [job(cluster, name) for name in "abcd"]
    Slurm(cluster.folder, every=0).submit(jobs)
    set_states(cluster, "RUNNING", "PENDING", "NODE_FAIL", "COMPLETING")
    # The process that submitted them was killed; this is the next one.
    engine = Slurm(cluster.folder, every=0)
    engine.submit([*jobs, job(cluster, "e")])
    arrays = sorted((cluster.folder / "slurm").iterdir())
    names = [[j["name"] for j in json.loads((a / "jobs.json").read_text())] for a in arrays]
    assert names == [["a", "b", "c", "d"], ["c", "e"]]
    assert [array.name[:5] for array in arrays] == ["0000_", "0001_"]
    set_states(cluster, *["COMPLETED"] * 4, "RUNNING", "PENDING")
    assert engine.watch() == {"a": "done", "b": "done", "c": "running", "d": "done", "e": "waiting"}
    engine.submit(jobs[2:3])
    assert len(submitted(cluster)) == 2
    # A finished job that is handed over once more runs once more.
    engine.submit(jobs[:1])
    assert len(submitted(cluster)) == 3
    assert engine.watch()["a"] == "waiting"


def test_a_large_submission_is_several_arrays(cluster, monkeypatch):
    monkeypatch.setattr(slurm, "LARGEST_ARRAY", 2)
    engine = Slurm(cluster.folder, every=0)
    engine.submit([job(cluster, name) for name in "abcde"])
    assert [args[2] for args in submitted(cluster)] == ["--array=0-1", "--array=0-1", "--array=0-0"]
    set_states(cluster, "RUNNING", "PENDING", "PENDING", "RUNNING", "RUNNING")
    found = engine.watch()
    assert [found[name] for name in "abcde"] == [
        *("running", "waiting", "waiting", "running", "running")
    ]


@pytest.mark.parametrize(
    ("state", "code", "status"),
    [
        ("PENDING", "", "waiting"),
        ("CONFIGURING", "", "waiting"),
        ("REQUEUED", "1", "waiting"),
        ("REQUEUE_HOLD", "", "waiting"),
        ("SUSPENDED", "", "waiting"),
        ("RUNNING", "", "running"),
        ("COMPLETING", "0", "running"),
        ("COMPLETED", "0", "done"),
        ("COMPLETED", "", "done"),
        ("FAILED", "2", "failed"),
        ("CANCELLED", "143", "failed"),
        ("TIMEOUT", "", "failed"),
        ("OUT_OF_MEMORY", "", "failed"),
        ("NODE_FAIL", "", "failed"),
        ("", "0", "done"),  # Slurm has forgotten it
        ("", "3", "failed"),
        ("", "", "failed"),
    ],
)
def test_states(cluster, state, code, status):
    engine = Slurm(cluster.folder, every=0)
    engine.submit([job(cluster, "a")])
    [array] = (cluster.folder / "slurm").iterdir()
    set_states(cluster, state)
    if not state:
        cluster.queue.write_text("")
    if code:
        (array / "0.exit").write_text(f"{code}\n")
    assert engine.watch() == {"a": status}
    log = cluster.folder.parent / "a" / "job.log"
    assert log.exists() == (status == "failed" and not code)
    if log.exists():
        engine.watch()
        reason = state or "no longer in the queue"
        assert log.read_text() == f"Slurm: {reason}; see {array / '0.out'}\n"


def test_other_jobs_of_the_user_do_not_matter(cluster):
    engine = Slurm(cluster.folder, every=0)
    engine.submit([job(cluster, "a")])
    other = "9 RUNNING bash\n8_0 RUNNING x\n7_[1-3%2] PENDING study/0000_12345678\n"
    cluster.queue.write_text(other + cluster.queue.read_text())
    assert engine.watch() == {"a": "waiting"}


def test_slurm_is_not_asked_all_the_time(cluster):
    engine = Slurm(cluster.folder, every=1000)
    engine.submit([job(cluster, "a")])
    assert engine.watch() == {"a": "waiting"}, "asked again after a submission"
    set_states(cluster, "RUNNING")
    assert engine.watch() == {"a": "waiting"}


def test_errors_are_clear(cluster, monkeypatch):
    engine = Slurm(cluster.folder, "--partition=nope", every=0)
    monkeypatch.setenv("REFUSE", "yes")
    with pytest.raises(UserError) as error:
        engine.submit([job(cluster, "a")])
    assert str(error.value) == (
        "sbatch refused 1 jobs with the options '--partition=nope': invalid partition specified: "
        "nope; Batch job submission failed: Invalid partition name specified"
    )
    monkeypatch.delenv("REFUSE")
    engine.submit([job(cluster, "a")])
    assert engine.watch() == {"a": "waiting"}
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="there is no squeue on this machine"):
        engine.submit([job(cluster, "a")])


def test_a_silent_controller(cluster, monkeypatch):
    engine = Slurm(cluster.folder, every=0)
    engine.submit([job(cluster, "a")])
    assert engine.watch() == {"a": "waiting"}
    cluster.queue.with_name("queue.down").touch()
    set_states(cluster, "RUNNING")
    assert engine.watch() == {"a": "waiting"}, "the last answer holds for a while"
    with pytest.raises(UserError, match="squeue does not answer: Unable to contact slurm contr"):
        engine.submit([job(cluster, "b")])
    assert len(submitted(cluster)) == 1, "it is not known what is in the queue"
    monkeypatch.setattr(slurm, "PATIENCE_S", 0.0)
    with pytest.raises(UserError, match="start the same sweep again when Slurm is back"):
        Slurm(cluster.folder, every=0).submit([job(cluster, "a")])
    cluster.queue.with_name("queue.down").unlink()
    assert engine.watch() == {"a": "running"}


def test_cancelling_asks_to_save_and_waits(cluster):
    engine = Slurm(cluster.folder, every=0.1)
    engine.cancel()
    engine.submit([job(cluster, name) for name in "abcd"])
    set_states(cluster, "RUNNING", "PENDING", "COMPLETED", "RUNNING")
    engine.cancel(["a", "b", "c", "unknown"])
    told = [call[1:] for call in calls(cluster) if call[0] == "scancel"]
    assert told == [
        ["--quiet", "--state=PENDING", "17_0", "17_1"],
        ["--quiet", "--batch", "--signal=USR2", "17_0", "17_1"],
    ]
    assert engine.watch()["b"] == "failed"


def test_cancelling_ends_what_does_not_save(cluster, monkeypatch):
    monkeypatch.setenv("STUBBORN", "yes")
    monkeypatch.setattr(slurm, "GRACE_S", 1.0)
    engine = Slurm(cluster.folder, every=0.1)
    engine.submit([job(cluster, "a")])
    set_states(cluster, "RUNNING")
    started = time.monotonic()
    engine.cancel()
    assert 1 <= time.monotonic() - started < 10
    assert calls(cluster)[-1] == ["scancel", "--quiet", "17_0"]
    assert engine.watch() == {"a": "failed"}


# A real Slurm


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if slurm_cluster.missing():
        pytest.skip(f"a Slurm of this machine {slurm_cluster.missing()}")
    with (
        slurm_cluster.slurm_cluster(tmp_path_factory.mktemp("slurm")) as found,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in (found.env | ONE_DEVICE).items():
            patch.setenv(name, value)
        yield found


def test_real_slurm_statuses_and_cancelling(real, tmp_path):
    engine = Slurm(tmp_path / "engine", every=0.2)
    ends = Job("ends", ("true",), tmp_path / "ends" / "job.log", ())
    fails = Job("fails", ("false",), tmp_path / "fails" / "job.log", ())
    engine.submit([ends, fails])
    wait_until(lambda: set(engine.watch().values()) == {"done", "failed"})
    assert engine.watch() == {"ends": "done", "fails": "failed"}
    jobs = [Job(n, stoppable(saving=0.5), tmp_path / n / "job.log", ()) for n in "abc"]
    engine.submit(jobs)
    logs = [job.log for job in jobs[:2]]
    wait_until(lambda: all(log.exists() and "started" in log.read_text() for log in logs))
    assert [engine.watch()[name] for name in "abc"] == ["running", "running", "waiting"]
    again = Slurm(tmp_path / "engine", every=0.2)
    again.submit(jobs)
    assert len(list((tmp_path / "engine" / "slurm").iterdir())) == 2, "nothing was submitted twice"
    again.cancel()
    assert again.watch() == dict.fromkeys("abc", "failed")
    assert [log.read_text() for log in logs] == [SAVED] * 2
    assert not jobs[2].log.exists() or jobs[2].log.read_text().startswith("Slurm: CANCELLED")
    with pytest.raises(UserError, match="invalid partition specified: nope"):
        Slurm(tmp_path / "other" / "engine", "--partition=nope").submit(jobs)


@pytest.mark.slow
def test_real_slurm_continues_on_another_node(real, tmp_path, command):
    jobs = [training(tmp_path, seed) for seed in (0, 1)]
    engine = Slurm(tmp_path / "study" / "engine", every=0.2)
    engine.submit(jobs)

    second = list(real.nodes)[1]

    def on_second(field: str) -> str:
        line = ["squeue", "--noheader", "--array", f"--nodelist={second}", "--states=RUNNING"]
        line.append(f"--format={field}")
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    lost = continue_after_a_loss(
        engine,
        jobs,
        there=lambda: jobs[int(index)] if (index := on_second("%K")) else None,
        kill=lambda: real.kill_node(second, on_second("%A")),
    )
    check_trained(command, tmp_path, jobs, lost)
