"""Trackers of a run, each read by its own library where that is installed."""

import json
import struct
import threading
import time

import pytest
from support.tensorboard_events import read_scalars

from unet_jax.errors import UserError
from unet_jax.runs.trackers import make
from unet_jax.runs.trackers.make import Row, Trackers, check_trackers

CONFIG = {"optim.learning_rate": 1e-3, "model.features": (4, 8), "data.path": "x" * 7000}


class Recording:
    """A tracker that keeps what it is told; `trouble` is raised by the call of that name."""

    def __init__(self, context, trouble=""):
        self.context, self.trouble, self.told, self.id = context, trouble, [], "of a run"
        if trouble == "open":
            raise RuntimeError("no\nserver")

    def scalars(self, step, at, values):
        if self.trouble == "scalars":
            raise ValueError("refused")
        self.told.append((step, values))

    def close(self):
        self.told.append("closed")


def install(monkeypatch, **openers):
    rows = {name: Row(opener, "json") for name, opener in openers.items()}
    monkeypatch.setattr(make, "TRACKERS", rows)


def test_all_get_the_finite_scalars_in_order_whatever_others_do(tmp_path, monkeypatch, capsys):
    opened = {}

    def opener(name, trouble):
        def open_it(context):
            opened[name] = Recording(context, trouble)
            return opened[name]

        return open_it

    troubles = {"good": "", "shut": "open", "late": "scalars", "other": ""}
    install(monkeypatch, **{name: opener(name, trouble) for name, trouble in troubles.items()})
    trackers = Trackers(tuple(troubles), tmp_path, CONFIG, 0)
    for step in (1, 2, 3):
        trackers.scalars(step, {"a": step / 2, "absent": None, "bad": float("nan")})
    trackers.close()
    told = [(step, {"a": step / 2}) for step in (1, 2, 3)]
    assert opened["good"].told == opened["other"].told == [*told, "closed"]
    said = capsys.readouterr().out.replace("\n", " ")
    assert "tracker shut is left out from here on: no" in said
    assert "tracker late is left out from here on: refused" in said
    assert opened["good"].context.config == CONFIG


def test_a_run_goes_on_as_what_the_tracker_called_it(tmp_path, monkeypatch):
    seen = []

    def opener(context):
        seen.append(context.id)
        return Recording(context)

    install(monkeypatch, one=opener)
    for start in (0, 5, 0):
        Trackers(("one",), tmp_path, CONFIG, start).close()
    assert seen == ["", "of a run", ""]
    (tmp_path / "trackers" / "ids.json").write_text("broken")
    Trackers(("one",), tmp_path, CONFIG, 5).close()
    assert seen[-1] == ""
    assert json.loads((tmp_path / "trackers" / "ids.json").read_text()) == {"one": "of a run"}


def test_nothing_waits_for_a_tracker_that_hangs(tmp_path, monkeypatch, capsys):
    released = threading.Event()

    def opener(context):
        tracker = Recording(context)
        tracker.scalars = lambda *line: released.wait(60)
        return tracker

    install(monkeypatch, slow=opener)
    trackers = Trackers(("slow",), tmp_path, CONFIG, 0)
    began = time.monotonic()
    for step in range(100):
        trackers.scalars(step, {"a": 1.0})
    trackers.close(wait_s=0.2)
    assert time.monotonic() - began < 30  # it would wait for an hour and a half
    assert "slow did not end within" in capsys.readouterr().out
    released.set()


def test_a_tracker_that_hangs_while_it_opens_is_named(tmp_path, monkeypatch, capsys):
    released = threading.Event()
    install(monkeypatch, shut=lambda context: released.wait(60) and Recording(context))
    Trackers(("shut",), tmp_path, CONFIG, 0).close(wait_s=0.1)
    assert "trackers: shut did not end within" in capsys.readouterr().out
    released.set()


def test_tensorboard_has_what_was_handed_on(tmp_path):
    trackers = Trackers(("tensorboard",), tmp_path, {}, 0)
    trackers.scalars(3, {"loss": 0.5, "absent": None})
    trackers.close()
    assert read_scalars(tmp_path / "tensorboard") == [(3, "loss", 0.5)]


# What these packages and what they import warn of is not ours.
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_what_was_handed_on(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs pip install -e '.[mlflow]'")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    for start in (0, 2):
        trackers = Trackers(("mlflow",), run, CONFIG, start)
        for step in (start + 1, start + 2):
            trackers.scalars(step, {"val/IoU/a (b), c": step / 4, "loss": -1.0})
        trackers.close()
    client = MlflowClient((run / "trackers" / "mlflow").as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'unet_jax'")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "run"
    assert found.info.status == "FINISHED"
    assert found.data.params["optim.learning_rate"] == "0.001"
    assert found.data.params["model.features"] == "(4, 8)"
    history = client.get_metric_history(found.info.run_id, "val/IoU/a _b__ c")
    assert [(metric.step, metric.value) for metric in history] == [
        (step, step / 4) for step in (1, 2, 3, 4)
    ]


def log_records(file):
    """Reads the records of a file of LevelDB's log format, with a header of seven bytes."""
    data, place, whole = file.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while place < len(data):
        left = 2**15 - place % 2**15  # of the block
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<4xHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_have_what_was_handed_on(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs pip install -e '.[wandb]'")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = tmp_path / "run"
    for start in (0, 2):
        trackers = Trackers(("wandb",), run, CONFIG, start)
        trackers.scalars(start + 1, {"loss": 0.25 + start})
        trackers.close()
    files = sorted((run / "trackers" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1  # one run
    found = []
    for record in (Record.FromString(text) for file in files for text in log_records(file)):
        items = record.history.item
        values = {item.key or "/".join(item.nested_key): item.value_json for item in items}
        if "loss" in values:
            found.append((record.history.step.num, json.loads(values["loss"])))
    assert sorted(found) == [(1, 0.25), (3, 2.25)]


def test_trackers_that_are_not_there():
    with pytest.raises(UserError, match=r"config\.train\.trackers='comet' .*tensorboard"):
        check_trackers(("tensorboard", "comet"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(make.TRACKERS, "mlflow", Row(Recording, "not_a_package", "mlflow"))
        with pytest.raises(UserError, match=r"not_a_package is not installed: pip install 'unet-"):
            check_trackers(("mlflow",))
