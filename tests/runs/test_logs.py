import json

import jax.numpy as jnp
import pytest
from support.scored import scores
from support.tensorboard_events import read_scalars

from unet_jax.errors import NonFiniteLossError
from unet_jax.process.console import duration
from unet_jax.runs import logs as module
from unet_jax.runs.logs import Logs, Recorder, print_scores


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def open_logs(folder, start=0):
    return Logs(folder / "metrics.jsonl", folder / "events", start, 100)


def test_scalars_go_to_the_file_and_to_the_events(tmp_path):
    logs = open_logs(tmp_path)
    logs.scalars(3, {"train/loss": 0.5, "val/IoU/absent": None})
    logs.close()
    assert lines(tmp_path) == [{"step": 3, "train/loss": 0.5, "val/IoU/absent": None}]
    assert read_scalars(tmp_path / "events") == [(3, "train/loss", 0.5)]


def test_lines_after_the_step_of_a_resume_and_half_lines_are_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    logs = open_logs(tmp_path, start=2)
    logs.scalars(3, {"a": 1.0})
    logs.close()
    assert lines(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3, "a": 1.0}]


def scalars(loss, norm=1.0):
    return {"train/loss": jnp.asarray(loss), "train/gradient_norm": jnp.asarray(norm)}


def test_the_recorder_is_one_step_behind_and_writes_when_due(tmp_path):
    logs = open_logs(tmp_path)
    recorder = Recorder(logs, 0, log_every=2, batch_size=4)
    for step in (1, 2, 3):
        recorder.add(step, scalars(step / 4), 0.0)
        written = [line["step"] for line in lines(tmp_path)]
        assert written == ([2] if step == 3 else [])
    recorder.add(4, scalars(1.0), 0.0)
    recorder.flush()
    logs.close()
    assert [(line["step"], line["train/loss"]) for line in lines(tmp_path)] == [(2, 0.5), (4, 1.0)]
    assert all(line["images_per_s"] > 0 for line in lines(tmp_path))


@pytest.mark.parametrize(("loss", "norm"), [(float("nan"), 1.0), (1.0, float("inf"))])
def test_what_is_not_finite_names_its_step(tmp_path, loss, norm):
    logs = open_logs(tmp_path)
    recorder = Recorder(logs, 0, log_every=10, batch_size=4)
    recorder.add(6, scalars(1.0), 0.0)
    recorder.add(7, scalars(loss, norm), 0.0)
    with pytest.raises(NonFiniteLossError, match="at step 7"):
        recorder.flush()
    logs.close()


def test_durations():
    assert [duration(s) for s in (5.4, 65, 3725)] == ["0:05", "1:05", "1:02:05"]


def test_absent_classes_are_printed_as_absent(monkeypatch):
    with module.console.capture() as capture:
        print_scores("val", scores([[3, 1], [0, 0]], ("a", "b")), ("a", "b"))
    text = capture.get()
    assert "0.7500" in text
    assert text.count("absent") == 3
