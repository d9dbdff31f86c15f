"""The Ray engine, with a stand-in for Ray and with a real one where it is installed."""

import _thread
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import pytest
from support.engine_jobs import (
    ONE_DEVICE,
    SAVED,
    check_trained,
    continue_after_a_loss,
    stoppable,
    training,
    wait_until,
)
from support.paths import ROOT

from unet_jax.errors import UserError
from unet_jax.studies.engines import child
from unet_jax.studies.engines import ray as engines
from unet_jax.studies.engines.base import Job
from unet_jax.studies.engines.ray import Ray, parse_options


class StandIn(ModuleType):
    """Notes what is asked of it; a task ends when the test puts its result into `results`."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self):
        super().__init__("ray")
        self.started, self.results, self.cancelled, self.inits = [], {}, [], []
        self.here = [{"NodeID": "n0", "Alive": True, "Resources": {"CPU": 2.0}}]
        self.gpus = 0

    def is_initialized(self):
        return False

    def init(self, address, **kwargs):
        self.inits.append((address, kwargs))
        signal.signal(signal.SIGTERM, lambda *_: None)
        if address == "nowhere:1":
            raise ConnectionError("Ray is trying\nto start")

    def cluster_resources(self):
        return {"CPU": 2.0} | ({"GPU": self.gpus} if self.gpus else {})

    def nodes(self):
        return self.here

    def remote(self, **options):
        def start(*args):
            self.started.append((args, options))
            return f"task {len(self.started) - 1}"

        return lambda function: SimpleNamespace(options=lambda name: SimpleNamespace(remote=start))

    def wait(self, tasks, num_returns, timeout):
        assert num_returns == len(tasks)
        ended = [task for task in tasks if task in self.results]
        return ended, [task for task in tasks if task not in ended]

    def get(self, task):
        if isinstance(self.results[task], Exception):
            raise self.results[task]
        return self.results[task]

    def cancel(self, task, force):
        self.cancelled.append((task, force))
        if force or task != "task 0":
            self.results[task] = RuntimeError("was cancelled")


@pytest.fixture
def stand_in(monkeypatch):
    ray = StandIn()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return ray


def job(tmp_path, name):
    return Job(name, ("true", name), tmp_path / name / "job.log", (tmp_path / name,))


def test_a_job_is_a_task_that_is_retried(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.chdir(tmp_path)
    engine = Ray(tmp_path / "engine", "num_cpus=2,tpu_host=1")
    jobs = [job(tmp_path, "a=1"), job(tmp_path, "packs/12ab")]
    engine.submit(jobs)
    engine.submit(jobs)
    assert len(stand_in.started) == 2, "what is under way is not started again"
    (command, log, mark, env, folder), options = stand_in.started[1]
    assert folder == tmp_path, "paths of a config mean the same there"
    assert (command, log) == (jobs[1].command, jobs[1].log)
    assert mark == tmp_path / "engine" / "ray" / "packs" / "12ab.node"
    assert env["JAX_PLATFORMS"] == "cpu"
    assert all(name.startswith(("JAX_", "XLA_", "UNET_JAX_")) for name in env)
    resources = {"num_cpus": 2.0, "num_gpus": 0.0, "resources": {"tpu_host": 1.0}}
    assert options == resources | {"max_retries": 100}


def test_statuses(stand_in, tmp_path):
    engine = Ray(tmp_path / "engine")
    assert engine.watch() == {}
    jobs = [job(tmp_path, name) for name in "abcd"]
    engine.submit(jobs)
    assert engine.watch() == dict.fromkeys("abcd", "waiting")
    mark = stand_in.started[0][0][2]
    mark.write_text("n0")
    assert engine.watch()["a"] == "running"
    stand_in.here[0]["Alive"] = False
    assert engine.watch()["a"] == "waiting", "its node was lost"
    lost = RuntimeError("the worker\ndied")
    stand_in.results = {"task 0": 0, "task 1": 3, "task 2": lost}
    expected = {"a": "done", "b": "failed", "c": "failed", "d": "waiting"}
    assert engine.watch() == engine.watch() == expected
    assert jobs[2].log.read_text() == "Ray: RuntimeError: the worker died\n"
    assert not jobs[1].log.exists()
    stand_in.here[0]["Alive"] = True
    engine.submit(jobs[:3])
    assert len(stand_in.started) == 7, "what has ended is started when it is handed over again"
    assert engine.watch() == dict.fromkeys("abcd", "waiting"), "the old mark does not count"


def test_cancelling_asks_first(stand_in, tmp_path):
    engine = Ray(tmp_path / "engine")
    engine.submit([job(tmp_path, name) for name in "abc"])
    engine.cancel(["b"])
    assert stand_in.cancelled == [("task 1", False)]
    assert engine.watch() == {"a": "waiting", "b": "failed", "c": "waiting"}
    engine.cancel()
    assert stand_in.cancelled[1:] == [("task 0", False), ("task 2", False), ("task 0", True)]
    assert engine.watch() == dict.fromkeys("abc", "failed")


def test_no_more_at_a_time_than_asked_for(stand_in, tmp_path):
    engine = Ray(tmp_path / "engine", max_parallel=2)
    jobs = [job(tmp_path, name) for name in "abcde"]
    engine.submit(jobs)
    engine.submit(jobs)
    assert [args[0][1] for args, _ in stand_in.started] == ["a", "b"]
    assert engine.watch() == dict.fromkeys("abcde", "waiting")
    stand_in.results["task 1"] = 0
    assert engine.watch() == dict.fromkeys("acde", "waiting") | {"b": "done"}
    assert [args[0][1] for args, _ in stand_in.started] == ["a", "b", "c"]
    engine.cancel(["d"])
    assert engine.watch()["d"] == "failed"
    engine.cancel()
    assert len(stand_in.started) == 3, "what is cancelled while it waits never starts"
    ended = dict.fromkeys("acde", "failed") | {"b": "done"}
    assert engine.watch() == ended


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("num_gpus=1", (0, 1, {})),
        ("num_cpus=4, tpu_host=0.5", (4, 0, {"tpu_host": 0.5})),
    ],
)
def test_options(text, expected):
    assert tuple(parse_options(text).values()) == expected
    assert list(parse_options(text)) == ["num_cpus", "num_gpus", "resources"]


@pytest.mark.parametrize("text", ["num_gpus", "=1", "num_cpus=-1", "num_cpus=two", "num_cpus=1,"])
def test_wrong_options(text):
    with pytest.raises(UserError, match=r"is not NAME=NUMBER; write what each job takes"):
        parse_options(text)


def test_a_job_takes_a_gpu_where_there_are_some(stand_in, tmp_path, capsys):
    stand_in.gpus = 1
    Ray(tmp_path / "engine").submit([job(tmp_path, "a")])
    assert stand_in.started[0][1]["num_gpus"] == 1
    assert "no node has {'CPU': 0.0, 'GPU': 1.0} as yet" in capsys.readouterr().err
    stand_in.here[0]["Resources"]["GPU"] = 1.0
    Ray(tmp_path / "engine").submit([job(tmp_path, "a")])
    assert capsys.readouterr().err == ""


def test_connecting(stand_in, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    for name in (
        loopback := "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
        "RAY_gcs_server_port_wait_time_s",
    ):
        monkeypatch.delenv(name, raising=False)
    Ray(tmp_path)
    assert os.environ[loopback] == "0"
    assert "RAY_gcs_server_port_wait_time_s" not in os.environ
    monkeypatch.delenv(loopback)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    Ray(tmp_path)
    assert {"RAY_gcs_server_port_wait_time_s": "1"}.items() <= os.environ.items()
    Ray(tmp_path, address="other:6379")
    assert loopback not in os.environ
    assert signal.getsignal(signal.SIGTERM) is before, "the sweep's own handler stays"
    assert [address for address, _ in stand_in.inits] == ["local", "head:6379", "other:6379"]
    assert all(not kwargs["log_to_driver"] for _, kwargs in stand_in.inits)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    with pytest.raises(UserError, match=r"no Ray cluster answers at 'nowhere:1' \(Ray is trying t"):
        Ray(tmp_path, address="nowhere:1")
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed: pip install 'unet-jax\[ray\]'"):
        Ray(tmp_path)


def test_the_task_notes_its_node_and_runs_the_command(stand_in, tmp_path):
    stand_in.get_runtime_context = lambda: SimpleNamespace(get_node_id=lambda: "n7")
    log, mark = tmp_path / "a" / "job.log", tmp_path / "a.node"
    code = "import os; print(os.getcwd(), os.environ['XLA_A']); exit(3)"
    command = (sys.executable, "-c", code)
    assert engines._run(command, log, mark, {"XLA_A": "1", "PYTHONPATH": str(ROOT)}, tmp_path) == 3
    assert mark.read_text() == "n7"
    assert log.read_text() == f"{tmp_path} 1\nended with exit code 3\n"


def test_interrupts_let_the_command_save(stand_in, tmp_path):
    stand_in.get_runtime_context = lambda: SimpleNamespace(get_node_id=lambda: "n7")
    log = tmp_path / "job.log"

    def interrupt_twice():
        wait_until(lambda: log.exists() and "started" in log.read_text())
        _thread.interrupt_main()
        time.sleep(0.2)
        _thread.interrupt_main()

    threading.Thread(target=interrupt_twice).start()
    assert engines._run(stoppable(saving=0.5), log, tmp_path / "node", {}, ROOT) == 143
    assert log.read_text() == SAVED


def test_an_interrupt_while_the_command_starts_ends_it(stand_in, tmp_path, monkeypatch):
    stand_in.get_runtime_context = lambda: SimpleNamespace(get_node_id=lambda: "n7")
    started, start = [], child.start

    def interrupted(*args, **where):
        started.append(start(*args, **where))
        _thread.interrupt_main()
        return started[0]

    monkeypatch.setattr(child, "start", interrupted)
    log = tmp_path / "job.log"
    assert engines._run(stoppable(saving=0.5), log, tmp_path / "node", {}, ROOT) == 143
    assert started[0].returncode is not None


# A real Ray


@pytest.fixture(scope="module")
def real():
    if not importlib.util.find_spec("ray"):
        pytest.skip("Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        # The last one keeps Ray from taking this machine's own address in place of 127.0.0.1.
        env = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        for name, value in (ONE_DEVICE | env).items():
            patch.setenv(name, value)
        import ray
        from ray.cluster_utils import Cluster

        place = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **place})
        cluster.workers = [cluster.add_node(num_cpus=1, **place) for _ in range(2)]
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_real_ray_of_this_machine_listens_on_the_loopback(tmp_path):
    if not importlib.util.find_spec("ray"):
        pytest.skip("Ray is not installed")
    code = f"""
from pathlib import Path
from unet_jax.studies.engines.ray import Ray
engine = Ray(Path({str(tmp_path)!r}))
import ray
print([node["NodeManagerAddress"] for node in ray.nodes()])
"""
    names = ("RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    env = {name: value for name, value in os.environ.items() if name not in names}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == "['127.0.0.1']\n", done.stderr


def test_real_ray_statuses_and_cancelling(real, tmp_path):
    engine = Ray(tmp_path / "engine", address=real.address)
    ends = Job("ends", ("true",), tmp_path / "ends" / "job.log", ())
    fails = Job("fails", ("false",), tmp_path / "fails" / "job.log", ())
    lacks = Job("lacks", ("/no/such/program",), tmp_path / "lacks" / "job.log", ())
    engine.submit([ends, fails, lacks])
    wait_until(lambda: {*engine.watch().values()} == {"done", "failed"})
    assert engine.watch() == {"ends": "done", "fails": "failed", "lacks": "failed"}
    assert lacks.log.read_text().startswith("/no/such/program: No such file or directory\n")
    jobs = [Job(n, stoppable(saving=0.5), tmp_path / n / "job.log", ()) for n in "abc"]
    engine.submit(jobs)
    wait_until(lambda: list(engine.watch().values()).count("running") == 2)
    logs = [job.log for job in jobs if engine.watch()[job.name] == "running"]
    wait_until(lambda: all(log.exists() and "started" in log.read_text() for log in logs))
    engine.cancel()
    assert {name: engine.watch()[name] for name in "abc"} == dict.fromkeys("abc", "failed")
    for log in logs:
        assert log.read_text().startswith(SAVED)


@pytest.mark.slow
def test_real_ray_continues_on_another_node(real, tmp_path, command):
    engine = Ray(tmp_path / "study" / "engine", address=real.address)
    jobs = [training(tmp_path, seed) for seed in (0, 1)]
    engine.submit(jobs)
    node = real.workers[1]
    marks = [tmp_path / "study" / "engine" / "ray" / f"{job.name}.node" for job in jobs]

    def there() -> Job | None:
        noted = [mark.read_text() if mark.exists() else "" for mark in marks]
        return jobs[noted.index(node.node_id)] if node.node_id in noted else None

    def kill() -> None:
        [raylet] = [info.process.pid for info in node.all_processes["raylet"]]
        for pid in [raylet, *descendants(raylet)]:
            os.kill(pid, signal.SIGKILL)

    lost = continue_after_a_loss(engine, jobs, there, kill)
    check_trained(command, tmp_path, jobs, lost)


def descendants(pid: int) -> list[int]:
    shown = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    children = [int(word) for word in shown.stdout.split()]
    return [*children, *(below for child in children for below in descendants(child))]
