import errno
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from absl import flags
from absl.testing import flagsaver
from support.paths import ROOT

from unet_jax import command_line, main
from unet_jax.errors import (
    LostProcessError,
    MissingResultsError,
    NonFiniteLossError,
    StoppedError,
    UserError,
)
from unet_jax.modes import MODES
from unet_jax.process import multihost
from unet_jax.studies.pages import parse_overrides

LONG = "Error writing file: No space left on device [os_error_code='28'] " + "x" * 500


def chained(outer, inner):
    try:
        raise outer from inner
    except Exception as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ValueError(f"RESOURCE_EXHAUSTED: {LONG}"),
        chained(RuntimeError("saving failed"), OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_a_full_disk_is_said_in_one_line(error, monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(command_line.os, "_exit", codes.append)
    command_line._end(error)
    assert codes == [2]
    said = capsys.readouterr().err
    assert said.startswith("error: the disk is full (")
    assert said.endswith("Free some space and start the same command again.\n")
    assert said.count("\n") == 1
    assert len(said) < 500


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk_is_said_in_the_words_of_the_mode(mode, monkeypatch, capsys):
    def fill(given, config, workdir):
        raise OSError(errno.ENOSPC, "No space left on device")

    codes = []
    monkeypatch.setattr(command_line.os, "_exit", codes.append)
    monkeypatch.setitem(MODES, mode, MODES[mode]._replace(work=fill))
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(mode=mode, workdir="x", card="x"), pytest.raises(UserError) as caught:
        main.run()
    command_line._end(caught.value)
    said = capsys.readouterr().err
    assert said.startswith("error: the disk is full ([Errno 28] No space left on device). Free")
    assert said.count("\n") == 1
    assert (" checkpoint" in said) == (mode == "train")
    words = {"train": "start the same", "eval": "evaluate", "predict": "--replace", "plan": "plan"}
    words |= {"doctor": "look again", "augment": "draw again", "verify": "verify again"}
    words |= {"score": "score again", "serve": "serve again", "export": "export again"}
    assert words[mode] in said
    assert codes == [2]  # at once, though the error is one of ours by now


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("a"), 2),
        (MissingResultsError("a"), 5),
        (NonFiniteLossError("b"), 3),
        (StoppedError("c", 15), 143),
    ],
)
def test_our_own_errors_are_one_line_and_a_code(error, code, capsys):
    assert command_line._end(error) == code
    kind = "" if isinstance(error, StoppedError) else "error: "
    assert capsys.readouterr().err == f"{kind}{error}\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        command_line._end(ZeroDivisionError("a bug"))


class Left(Exception):
    pass


@pytest.fixture
def joined(monkeypatch):
    """As if this were one of many processes."""

    def leave(code):
        raise Left(code)

    stand_in = SimpleNamespace(is_loss=multihost.is_loss, leave=leave)
    monkeypatch.setattr(command_line, "_joined", lambda: stand_in)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("UNAVAILABLE: the following tasks are unhealthy"), 4),
        (chained(ValueError("saving failed"), RuntimeError("Gloo all-reduce failed: reset")), 4),
        (UserError("the other processes wait at a barrier"), 2),
        (chained(UserError("out of memory"), RuntimeError("Gloo")), 2),
        (ZeroDivisionError("a bug"), 1),
    ],
)
def test_one_of_many_leaves_at_once(joined, error, code, capsys):
    with pytest.raises(Left, match=str(code)):
        command_line._end(error)
    said = capsys.readouterr().err
    assert ("another process of this run was lost" in said) == (code == 4)
    assert ("Traceback" in said or "a bug" in said) == (code == 1)


def test_processes_that_stop_together_do_not(joined, capsys):
    assert command_line._end(StoppedError("stopped at step 7", 15)) == 143
    assert capsys.readouterr().err == "stopped at step 7\n"


def test_the_reason_of_a_loss_is_named():
    assert "Gloo" in str(LostProcessError("Gloo all-reduce failed"))
    assert "scheduler" in str(LostProcessError())


def supervised(code):
    program = (
        f"import os, signal\nfrom unet_jax.process import runtime\nruntime.supervise()\n{code}"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ("os._exit(0)", 0),
        ("os._exit(143)", 143),
        ("os.abort()", 4),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
    ],
)
def test_the_supervisor_says_how_its_child_ended(ends, code):
    process = supervised(ends)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert (b"another process of this run was lost" in error) == (code == 4)


def test_the_supervisor_passes_sigterm_on_and_its_child_dies_with_it():
    waits = "signal.signal(15, lambda *_: os._exit(7)); print('ready', os.getpid(), flush=True)"
    with supervised(f"{waits}\nsignal.pause()") as process:
        process.stdout.readline()
        process.terminate()
        assert process.wait(60) == 7
    with supervised(f"{waits}\nsignal.pause()") as process:
        child = int(process.stdout.readline().split()[1])
        process.kill()
        process.wait()
        assert process.stdout.read() == b"", "its end of the pipe closes when the child is dead"
    assert child != process.pid


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        (
            ["--config.model.features=(4, 8)", "--config.model.features=(8, 16)"],
            "features",
            [8, 16],
        ),
        (["--config.model.features", "(4, 8)", "-config.model.features=[5]"], "features", [5]),
        (["--config.model.features=(4, 8)", "--config.model.features=()"], "features", []),
        (["--config.model.dropout=0.1", "--config.model.dropout=0.3"], "dropout", [0.3]),
        (["--config.model.block=plain", "--config.model.block=residual"], "block", "residual"),
        (["--config.model.conv_bias", "--noconfig.model.conv_bias"], "conv_bias", False),
        (["--noconfig.model.conv_bias", "--config.model.conv_bias"], "conv_bias", True),
        # The page itself, in either form and on either side of the key.
        (["--config.model.features=(3,)", "--config=configs/shapes.py"], "features", [3]),
        (["--config", "configs/shapes.py", "--config.model.features=(3,)"], "features", [3]),
        (["--config", "configs/shapes.py:attention"], "features", [16, 32, 64, 128]),
    ],
)
def test_the_last_of_what_is_given_twice_counts(given, key, value):
    program = """if True:
        import json, sys
        from absl import flags
        from ml_collections import config_flags
        from unet_jax import command_line, main
        command_line.parse(sys.argv)
        print(json.dumps(main.CONFIG.value.model.to_dict()))
        print(json.dumps(config_flags.get_override_values(flags.FLAGS["config"])))
    """
    line = [sys.executable, "-c", program, "--config=configs/tiny.py", "--workdir=w", *given]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model, overrides = map(json.loads, done.stdout.splitlines())
    assert model[key] == value
    if any(f"config.model.{key}" in arg for arg in given):
        assert overrides == {f"model.{key}": value}, "the run's record says what it was"


def test_the_last_value_for_every_trial_counts():
    given = ["model.features=(4, 8)", "optim.momentum=0.1", "model.features=(8, 16)"]
    found = parse_overrides("configs/tiny.py", given)
    assert found == {"model.features": (8, 16), "optim.momentum": 0.1}
