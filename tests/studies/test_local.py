import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.paths import ROOT

from unet_jax.studies.engines import local
from unet_jax.studies.engines.base import Job
from unet_jax.studies.engines.local import Local, make_slots

POLITE = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); "


def job(tmp_path: Path, name: str, code: str) -> Job:
    return Job(name, (sys.executable, "-c", code), tmp_path / name / "log.txt", (tmp_path / name,))


def wait(engine: Local, *names: str, status: tuple[str, ...] = ("done", "failed")) -> None:
    deadline = time.monotonic() + 60
    while not all(engine.watch()[name] in status for name in names):
        assert time.monotonic() < deadline, engine.watch()
        time.sleep(0.02)


def wait_for_text(file: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not (file.exists() and text in file.read_text()):
        assert time.monotonic() < deadline, file
        time.sleep(0.02)


def test_jobs_run_side_by_side_each_with_a_slot_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    engine = Local([{"SLOT": "a"}, {"SLOT": "b"}])
    code = (
        "import os, time; print('begin', time.time()); print(os.environ['SLOT'], os.getcwd()); "
        "time.sleep(0.4); print('end', time.time())"
    )
    jobs = [job(tmp_path, str(index), code) for index in range(5)]
    engine.submit(jobs)
    assert sorted(engine.watch().values()) == ["running"] * 2 + ["waiting"] * 3
    wait(engine, "0", "1", "2", "3", "4")
    spans = []
    for one in jobs:
        words = one.log.read_text().split()
        spans.append((words[2], float(words[1]), float(words[5])))
        assert Path(words[3]) == tmp_path
    for slot in "ab":
        own = sorted((begin, end) for name, begin, end in spans if name == slot)
        assert len(own) in (2, 3)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(own))
    edges = sorted([(begin, 1) for _, begin, _ in spans] + [(end, -1) for *_, end in spans])
    at_once = [sum(step for _, step in edges[: index + 1]) for index in range(len(edges))]
    assert max(at_once) == 2


def test_a_failed_job_says_how_in_its_log_and_the_rest_goes_on(tmp_path):
    engine = Local([{}])
    codes = {
        "bad": "import sys; print('out'); print('why', file=sys.stderr); sys.exit(3)",
        "killed": "import os; os.kill(os.getpid(), 9)",
        "good": "pass",
    }
    engine.submit([job(tmp_path, name, code) for name, code in codes.items()])
    wait(engine, *codes)
    assert engine.watch() == {"bad": "failed", "killed": "failed", "good": "done"}
    assert (tmp_path / "bad" / "log.txt").read_text() == "out\nwhy\nended with exit code 3\n"
    assert (tmp_path / "killed" / "log.txt").read_text() == "ended with SIGKILL\n"
    assert (tmp_path / "good" / "log.txt").read_text() == ""
    # Submitted again it runs again, and its log goes on.
    engine.submit([job(tmp_path, "bad", "print('again')")])
    wait(engine, "bad")
    assert engine.watch()["bad"] == "done"
    assert (tmp_path / "bad" / "log.txt").read_text().endswith("3\nagain\n")


def test_a_child_whose_parent_is_gone_does_nothing(tmp_path):
    line = [sys.executable, "-m", "unet_jax.studies.engines.child", "1", "touch", tmp_path / "file"]
    assert subprocess.run(line, cwd=ROOT).returncode == 125
    assert not (tmp_path / "file").exists()


def test_a_program_that_is_not_there_is_one_line(tmp_path):
    engine = Local([{}])
    engine.submit([Job("a", ("/no/such/program", "b"), tmp_path / "log.txt", (tmp_path,))])
    wait(engine, "a")
    assert (tmp_path / "log.txt").read_text() == (
        "/no/such/program: No such file or directory\nended with exit code 127\n"
    )


def test_a_pack_has_all_devices_and_others_wait_for_it(tmp_path):
    code = "import os, time; print(os.environ.get('SLOT'), time.time()); time.sleep(0.3)"
    names = ["before", "pack", "after", "last"]
    jobs = [job(tmp_path, name, f"{code}; print(time.time())") for name in names]
    jobs[1] = jobs[1]._replace(trials=(tmp_path / "t0", tmp_path / "t1"))
    engine = Local([{"SLOT": "a"}, {"SLOT": "b"}])
    engine.submit(jobs)
    wait(engine, *names)
    told = {name: (tmp_path / name / "log.txt").read_text().split() for name in names}
    assert [told[name][0] for name in names] == ["a", "None", "a", "b"]
    assert float(told["before"][2]) < float(told["pack"][1])
    assert float(told["pack"][2]) < min(float(told["after"][1]), float(told["last"][1]))


def test_packs_share_a_machine_without_devices_of_their_own(tmp_path):
    waits = "import time; print('began', flush=True); time.sleep(60)"
    jobs = [job(tmp_path, name, POLITE + waits) for name in "ab"]
    jobs = [one._replace(trials=(tmp_path / "t0", tmp_path / "t1")) for one in jobs]
    engine = Local([{}, {}])
    engine.submit(jobs)
    assert engine.watch() == {"a": "running", "b": "running"}
    for one in jobs:
        wait_for_text(one.log, "began")
    engine.cancel()


def test_what_is_under_way_is_not_started_twice(tmp_path):
    engine, go = Local([{}, {}]), tmp_path / "go"
    waits = f"import os, time; print('ready', flush=True)\nwhile not os.path.exists({str(go)!r}): "
    one = job(tmp_path, "one", waits + "time.sleep(0.01)")
    engine.submit([one, one])
    wait_for_text(one.log, "ready")
    engine.submit([one])
    go.touch()
    wait(engine, "one")
    assert one.log.read_text() == "ready\n"
    # Nor one that waits.
    engine = Local([{}])
    first = job(tmp_path, "first", "import time; time.sleep(0.2)")
    second = job(tmp_path, "second", "print('ran')")
    engine.submit([first, second])
    engine.submit([second])
    wait(engine, "first", "second")
    assert second.log.read_text() == "ran\n"


def test_cancel_of_one_lets_the_others_go_on(tmp_path):
    engine = Local([{}, {}])
    sleeps = POLITE + "print('ready', flush=True); time.sleep(60)"
    jobs = [job(tmp_path, name, sleeps) for name in "abc"]
    engine.submit(jobs)
    wait_for_text(jobs[0].log, "ready")
    engine.cancel(["a"])
    assert engine.watch() == {"a": "failed", "b": "running", "c": "running"}
    engine.cancel()
    assert engine.watch() == dict.fromkeys("abc", "failed")


def test_jobs_that_do_not_end_are_killed_and_waiting_ones_never_start(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "LIMIT", 0.3)
    engine = Local([{}])
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True);"
    jobs = [job(tmp_path, "a", stubborn + "time.sleep(60)"), job(tmp_path, "b", "print('ran')")]
    engine.submit(jobs)
    wait_for_text(jobs[0].log, "ready")
    began = time.monotonic()
    engine.cancel()
    assert time.monotonic() - began < 10
    assert engine.watch() == {"a": "failed", "b": "failed"}
    assert "SIGKILL" in jobs[0].log.read_text()
    assert not jobs[1].log.exists()


def test_jobs_die_with_the_sweep_and_do_not_see_its_ctrl_c(tmp_path):
    sleeps = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    log = tmp_path / "log.txt"
    program = (
        "import sys, time; from pathlib import Path; "
        "from unet_jax.studies.engines.local import Local; "
        "from unet_jax.studies.engines.base import Job; "
        f"e = Local([{{}}]); e.submit([Job('a', (sys.executable, '-c', {sleeps!r}), "
        f"Path({str(log)!r}), ())]); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as parent:
        wait_for_text(log, "\n")
        child = int(log.read_text())
        assert os.getpgid(child) != os.getpgid(parent.pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "State:\tZ" not in _status(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize(
    ("platform", "count", "at_once", "env", "wanted"),
    [
        ("cpu", 8, None, {}, [{}]),
        ("cpu", 1, 3, {}, [{}] * 3),
        ("gpu", 2, None, {}, [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]),
        ("gpu", 4, 1, {}, [{"CUDA_VISIBLE_DEVICES": "0"}]),
        (
            "gpu",
            2,
            None,
            {"CUDA_VISIBLE_DEVICES": "3,GPU-ab"},
            [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "GPU-ab"}],
        ),
        (
            "gpu",
            1,
            3,
            {},
            [{"CUDA_VISIBLE_DEVICES": "0", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.30"}] * 3,
        ),
        (
            "gpu",
            1,
            2,
            {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"},
            [{"CUDA_VISIBLE_DEVICES": "0"}] * 2,
        ),
        (
            "tpu",
            2,
            None,
            {},
            [
                {
                    "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
                    "TPU_PROCESS_BOUNDS": "1,1,1",
                    "TPU_VISIBLE_CHIPS": index,
                }
                for index in "01"
            ],
        ),
    ],
)
def test_each_job_sees_a_device_of_its_own(platform, count, at_once, env, wanted, monkeypatch):
    monkeypatch.setattr(local, "count_devices", lambda: (platform, count))
    for name in ("CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert make_slots(at_once) == wanted


def test_devices_are_counted_by_a_process_that_ends(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    platform, count = local.count_devices()
    assert count == 8 if platform == "cpu" else count >= 1
