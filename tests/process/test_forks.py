"""Forked processes, in which other tests run commands, do what new ones do."""

import json
import re
import signal
import subprocess
import sys

import pytest
from support import forks, xla
from support.paths import ROOT
from support.runs import TINY, wait_for

LOOK = """
import json, os, signal, sys, threading
asked = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE]
print(json.dumps({
    "argv": sys.argv, "orig_argv": sys.orig_argv, "folder": os.getcwd(), "path": sys.path[0],
    "shown": open("/proc/self/cmdline").read().strip(chr(0)), "name": __name__,
    "main": sys.modules["__main__"].__dict__ is globals(), "mine": os.environ["UNET_JAX_MINE"],
    "parent": os.getppid(), "leads": os.getsid(0) == os.getpid(), "read": sys.stdin.read(),
    "terminals": [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "signals": [repr(signal.getsignal(one)) for one in asked],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "threads": threading.active_count(),
}))
"""
ENDS = {
    "at its end": "print('out'); print('err', file=sys.stderr)",
    "with a code": "sys.stdout.write('no line'); sys.exit(7)",
    "with words": "sys.exit('some words')",
    "by an error": "1 / 0",
    "killed": "import os; print('lost'); os.kill(os.getpid(), 9)",
    "terminated": "import os; os.kill(os.getpid(), 15)",
    "after its threads and handlers": (
        "import atexit, threading, time; atexit.register(print, 'last'); "
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()"
    ),
}


def both(line, **given):
    """Runs a command in a new process and in a forked one; returns what they gave."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    found = []
    for kind in (subprocess.Popen, forks.Popen):
        with kind(line, **pipes | given, stdin=subprocess.PIPE) as process:
            found.append((*process.communicate("ä\n"), process.returncode))
    return found


def test_a_forked_process_is_given_what_a_new_one_is(tmp_path):
    line = [sys.executable, "-c", LOOK, "a b", "ü"]
    env = xla.env(3) | {"UNET_JAX_MINE": "é"}
    new, forked = both(line, cwd=tmp_path, env=env, start_new_session=True)
    assert json.loads(forked[0]) == json.loads(new[0])
    assert forked[1:] == new[1:] == ("", 0)


@pytest.mark.parametrize("how", ENDS)
def test_a_forked_process_ends_as_a_new_one_does(how):
    line = [sys.executable, "-c", f"import sys; {ENDS[how]}"]
    new, forked = both(line, cwd=ROOT)
    if how == "by an error":  # of which the frames differ
        new, forked = ((out, said.splitlines()[-1], code) for out, said, code in (new, forked))
    assert forked == new


def test_what_an_import_reads_is_given_to_a_new_process(monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    line = [sys.executable, "-c", "import sys; print('jax' in sys.modules)"]
    assert forks.run(line).stdout == "False\n"
    monkeypatch.delenv("JAX_ENABLE_X64")
    assert forks.run(line).stdout == "True\n"


def test_what_a_forked_process_starts_is_forked_and_its_child():
    inner = "import os, sys; print(os.getppid(), 'jax' in sys.modules)"
    code = (
        "import os, subprocess, sys; print(os.getpid(), True, flush=True);"
        f"subprocess.run([sys.executable, '-c', {inner!r}])"
    )
    done = forks.run([sys.executable, "-c", code])
    first, second = done.stdout.splitlines()
    assert first == second


def test_a_mistake_is_told_alike(tmp_path):
    line = [sys.executable, "-m", "unet_jax.main", "--mode=eval", f"--workdir={tmp_path / 'no'}"]
    new, forked = both(line, cwd=ROOT)
    assert new[2] == 2
    assert forked == new


def test_sigterm_is_obeyed_alike(tmp_path):
    """That a training is the same is in test_end_to_end.py."""
    said = []
    for kind in (subprocess.Popen, forks.Popen):
        workdir = tmp_path / kind.__module__
        line = [sys.executable, "-m", "unet_jax.main", TINY, f"--workdir={workdir}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with kind(line, cwd=ROOT, env=xla.env(), **pipes) as process:
            file = workdir / "metrics.jsonl"
            wait_for(process, lambda file=file: file.exists() and file.read_text().count("\n") > 5)
            process.send_signal(signal.SIGTERM)
            texts = process.communicate(timeout=120)
        texts = (re.sub(rf"{workdir}|[\d.]+ images/s|\d+", "N", text) for text in texts)
        said.append((*texts, process.returncode))
    new, forked = said
    assert new[2] == 143
    assert forked == new
