import json
import statistics
import time

import jax.numpy as jnp
import pytest
from support.scored import scores
from support.tensorboard_events import read_scalars

from unet_jax.errors import NonFiniteLossError
from unet_jax.process.console import duration
from unet_jax.runs import logs as module
from unet_jax.runs.logs import Arrivals, Logs, Recorder, print_scores
from unet_jax.runs.trackers.make import Trackers


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def open_logs(folder, start=0):
    trackers = Trackers(("tensorboard",), folder, {}, start)
    return Logs(folder / "metrics.jsonl", trackers, start, 100)


def test_scalars_go_to_the_file_and_to_the_events(tmp_path):
    logs = open_logs(tmp_path)
    logs.scalars(3, {"train/loss": 0.5, "val/IoU/absent": None})
    logs.close()
    assert lines(tmp_path) == [{"step": 3, "train/loss": 0.5, "val/IoU/absent": None}]
    assert read_scalars(tmp_path / "tensorboard") == [(3, "train/loss", 0.5)]


def test_lines_after_the_step_of_a_resume_and_half_lines_are_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    logs = open_logs(tmp_path, start=2)
    logs.scalars(3, {"a": 1.0})
    logs.close()
    assert lines(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3, "a": 1.0}]


def scalars(loss, norm=1.0):
    return {"train/loss": jnp.asarray(loss), "train/gradient_norm": jnp.asarray(norm)}


def test_lines_are_one_step_behind_and_come_when_due(tmp_path):
    logs = open_logs(tmp_path)
    arrivals = Arrivals(Recorder(logs, 0, log_every=2, batch_size=4).write)
    for step in (1, 2, 3):
        arrivals.add(step, scalars(step / 4), 0.0)
        written = [line["step"] for line in lines(tmp_path)]
        assert written == ([2] if step == 3 else [])
    arrivals.add(4, scalars(1.0), 0.0)
    arrivals.flush()
    arrivals.close()
    logs.close()
    assert [(line["step"], line["train/loss"]) for line in lines(tmp_path)] == [(2, 0.5), (4, 1.0)]


def test_the_speed_is_that_of_the_steps_since_the_line_before(tmp_path):
    logs = open_logs(tmp_path)
    recorder = Recorder(logs, 0, log_every=2, batch_size=4)
    begin = time.perf_counter()
    recorder.write(1, scalars(1.0), 0.5, begin + 1)
    recorder.write(2, scalars(1.0), 1.5, begin + 4)  # 8 images in 4 s, of them 2 s of waiting
    recorder.write(3, scalars(1.0), 0.0, begin + 4.5)
    recorder.write(4, scalars(1.0), 0.0, begin + 5)  # 8 in 1 s
    logs.close()
    speeds, waits = (
        [line[key] for line in lines(tmp_path)] for key in ("images_per_s", "data_wait")
    )
    assert speeds == pytest.approx([2, 8], rel=0.01)
    assert waits == pytest.approx([0.5, 0], rel=0.01)


def test_a_line_of_every_step_has_the_speed_of_steps_that_wait_for_their_images(tmp_path):
    logs = open_logs(tmp_path)
    recorder, seconds = Recorder(logs, 0, log_every=1, batch_size=4), 0.1
    arrivals = Arrivals(recorder.write)
    for step in range(1, 7):
        time.sleep(seconds)
        arrivals.add(step, scalars(1.0), seconds)
        if step % 3 == 0:  # as the loop does around an evaluation
            arrivals.flush()
            recorder.restart_clock(step)
    arrivals.close()
    logs.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert max(line["images_per_s"] for line in lines(tmp_path)) < 1.5 * 4 / seconds
    assert statistics.median(line["data_wait"] for line in lines(tmp_path)) > 0.5
    assert max(line["data_wait"] for line in lines(tmp_path)) <= 1


@pytest.mark.parametrize(("loss", "norm"), [(float("nan"), 1.0), (1.0, float("inf"))])
def test_what_is_not_finite_names_its_step(tmp_path, loss, norm):
    logs = open_logs(tmp_path)
    recorder = Recorder(logs, 0, log_every=10, batch_size=4)
    recorder.write(6, scalars(1.0), 0.0, time.perf_counter())
    with pytest.raises(NonFiniteLossError, match="at step 7"):
        recorder.write(7, scalars(loss, norm), 0.0, time.perf_counter())
    logs.close()


def test_the_time_left_is_that_of_the_steps_after_the_first(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with module.console.capture() as capture:
        progress = module._Progress(20, 60)
        for step, at in ((21, 1300.0), (22, 1302.0), (31, 1320.0), (32, 1322.0)):
            now[0] = at  # the first step takes 300 s, each of the others 2 s
            progress.update(step, 8.0, 0.5)
        progress.close()
    assert capture.get().splitlines() == [
        "step 21/60  loss 0.5000  8.0 images/s",
        "step 31/60  loss 0.5000  8.0 images/s  0:58 left",
    ]


def test_durations():
    assert [duration(s) for s in (5.4, 65, 3725)] == ["0:05", "1:05", "1:02:05"]


def test_absent_classes_are_printed_as_absent(monkeypatch):
    with module.console.capture() as capture:
        print_scores("val", scores([[3, 1], [0, 0]], ("a", "b")), ("a", "b"))
    text = capture.get()
    assert "0.7500" in text
    assert text.count("absent") == 3
