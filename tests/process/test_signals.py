"""Ctrl-C, a closed terminal and a reader that has gone, on real processes, pipes and terminals."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from support.paths import ROOT

from unet_jax import command_line, training
from unet_jax.errors import StoppedError
from unet_jax.process import runtime, signals, streams

ENV = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # which a command starts again for
NOTHING = b"nothing is saved; the same command begins again.\n"
UNKNOWN = b"nothing is half written; start the same command again.\n"  # no flag was read yet


@pytest.fixture(autouse=True)
def heard():
    """Lets this process, and those it starts, hear both signals; they are put back after a test."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_a_closed_terminal_stops_a_run_after_its_step_and_saves():
    kept, steps = [], []

    def step(state, batch, key):
        steps.append(state + 1)
        if len(steps) == 2:  # as the shell and the kernel send it, one after the other
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
        return state + 1, {}

    keeper = SimpleNamespace(
        record=lambda *_: None,
        keep=lambda step, state, evaluates: kept.append((step, state)),
        wait=lambda: None,
        restart_clock=lambda _: None,
        has_ended=lambda _: False,
    )
    plan = SimpleNamespace(total=9, eval_every=9, checkpoint_every=9)
    with pytest.raises(
        StoppedError, match=r"stopped at step 2 of 9; saved\. The same command goes on"
    ) as stopped:
        training.loop(keeper, plan, 0, 0, step, iter(range(9)), None)
    assert stopped.value.exit_code == 129
    assert kept == [(2, 2)]
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_under_nohup_a_closed_terminal_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.stop_requests() as request:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not request.signum
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signum == signal.SIGTERM


@pytest.mark.parametrize("ignored", [False, True])
def test_a_supervised_child_is_told_unless_it_is_ignored(ignored):
    program = (
        "import os, signal\nfrom unet_jax.process import runtime\nruntime.supervise()\n"
        "if signal.getsignal(1) == signal.SIG_IGN: os._exit(0)\n"
        "signal.signal(1, lambda *_: os._exit(7)); print('ready', flush=True); signal.pause()"
    )
    signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    line = [sys.executable, "-c", program]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == (0 if ignored else 7)


WAIT = "print('ready', flush=True); "
MOMENTS = {
    # Where it comes, as the module that is imported then, and how often.
    "imports": ("ml_collections", f"{WAIT}import time; time.sleep(60)", 1),
    "imports, three times": ("ml_collections", f"{WAIT}import time; time.sleep(60)", 3),
    "work": ("jax", f"{WAIT}import time; time.sleep(60)", 1),
    "work, twice": ("jax", f"{WAIT}import time; time.sleep(60)", 2),
    # As a compilation: no Python runs in this thread until it ends.
    "native code, twice": (
        "jax",
        f"{WAIT}import hashlib; hashlib.pbkdf2_hmac('sha1', b'', b'', 10**9)",
        2,
    ),
    # What is raised where nobody can catch it, what is made of it, and what threads make of it.
    "destructor": (
        "jax",
        "import os\n"
        "class Deaf:\n"
        "    def __del__(self):\n"
        f"        {WAIT}__import__('time').sleep(60)\n"
        "deaf = Deaf()\n"
        "del deaf\n"
        "import threading, time\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "raise RuntimeError('native code made this of it')",
        1,
    ),
}


@pytest.fixture(params=MOMENTS)
def moment(request, tmp_path):
    """A command that says when Ctrl-C is to come, its environment, and how often it comes."""
    name, text, count = MOMENTS[request.param]
    (tmp_path / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    line = [sys.executable, "-m", "unet_jax.main", "--config=configs/tiny.py"]
    line.append(f"--workdir={tmp_path / 'run'}")
    steps = ("7", "12", "13.orbax-checkpoint-tmp-1") if "native" in request.param else ()
    for step in steps:
        (tmp_path / "run" / "checkpoints" / step).mkdir(parents=True)
    return line, ENV | {"PYTHONPATH": path}, count, name, bool(steps)


def test_ctrl_c_is_one_line_at_any_moment(moment, tmp_path):
    line, env, count, imported, saved = moment
    terminal, inside = os.openpty()
    pipes = {"stdout": subprocess.PIPE, "stderr": inside}
    with subprocess.Popen(line, cwd=ROOT, env=env, **pipes) as process:
        os.close(inside)
        assert process.stdout.readline() == b"ready\n"
        began = time.monotonic()
        for _ in range(count):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        assert process.wait(30) == 130
        assert time.monotonic() - began < 10
    said = _read(terminal)
    assert b"\x1b[?25h" in said, "the cursor is shown"
    said = said.replace(b"\x1b[?25h", b"").replace(b"\r\n", b"\n").lstrip(b"\n")
    ends = b"saved at step 12; the same command goes on.\n" if saved else NOTHING
    assert said == b"stopped by Ctrl-C; " + (ends if imported == "jax" else UNKNOWN)
    assert (tmp_path / "run").exists() == saved


def _read(terminal):
    said = b""
    try:
        while part := os.read(terminal, 4096):
            said += part
    except OSError:  # nobody has it open any more
        pass
    os.close(terminal)
    return said


def test_ctrl_c_while_a_command_starts_again_waits_for_its_first_line():
    program = (
        "import os, sys\n"
        "from unet_jax.process import runtime\n"
        "execv = os.execv\n"
        "def interrupted(*args):\n"
        "    os.kill(os.getpid(), 2)\n"
        "    execv(sys.executable, [sys.executable, '-m', 'unet_jax.main', '--help'])\n"
        "os.execv = interrupted\n"
        "runtime.use_huge_pages()\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True)
    if not done.stdout:  # glibc
        assert done.returncode == 130
        assert done.stderr.startswith(b"stopped by Ctrl-C;")
        assert done.stderr.count(b"\n") == 1


def test_ctrl_c_in_a_library_raises_as_ever(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "parse", lambda argv: [])
    monkeypatch.setattr(runtime, "prepare", lambda: None)

    def work():
        raise KeyboardInterrupt

    assert command_line.run(["x"], work, command_line) == 130
    assert capsys.readouterr().err.startswith("stopped by Ctrl-C;")
    assert signal.getsignal(signal.SIGINT) != signals._interrupt


@pytest.fixture
def gone():
    """Returns a function that makes a stream whose reader, a pipe or terminal, has gone."""
    streams = []

    def make(kind):
        reader, writer = os.pipe() if kind == "pipe" else os.openpty()
        os.close(reader)
        streams.append(os.fdopen(writer, "w"))
        return streams[-1]

    yield make
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_what_nobody_reads_any_more_is_no_error(gone, kind):
    stream = streams._lasting(gone(kind))
    print("nobody", file=stream, flush=True)
    print("reads this", file=stream)
    stream.flush()
    assert os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))


def test_a_full_disk_is_still_one():
    with open("/dev/full", "w") as full:
        raw = streams._lasting(full).detach().detach()
        with pytest.raises(OSError, match="No space"):
            raw.write(b"lost")


COMMAND = """
import sys
from pathlib import Path
from unet_jax import command_line

def work():
    from unet_jax.process.console import console, follow
    print("begins", flush=True)
    sys.stdin.readline()
    for step in follow(range(3), "steps", 3):
        console.print("step", step)
        print("step", step, flush=True)
        print("warning", file=sys.stderr)
    Path("result").write_text("whole")
    print("ends")

if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, work, sys.modules["__main__"]))
"""


def test_a_command_goes_on_without_a_reader(tmp_path, gone):
    (tmp_path / "command.py").write_text(COMMAND)
    line, env = [sys.executable, "command.py"], ENV | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": gone("pipe")}
    with subprocess.Popen(line, cwd=tmp_path, env=env, **pipes) as process:
        assert process.stdout.readline() == b"begins\n"
        process.stdout.close()
        process.stdin.close()
        assert process.wait(60) == 0
    assert (tmp_path / "result").read_text() == "whole"
