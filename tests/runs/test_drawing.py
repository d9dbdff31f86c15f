"""What a run draws, and when."""

import threading
import time

import numpy as np
from support import quick

from unet_jax import figures
from unet_jax.data.synthetic import open_synthetic
from unet_jax.metrics.make import read_headline
from unet_jax.run import Validation
from unet_jax.runs import history
from unet_jax.runs.gallery import Gallery
from unet_jax.task import make_task
from unet_jax.training import train_and_evaluate


class Slow:
    """Draws nothing; the first figure waits."""

    def __init__(self):
        self.may_go_on, self.drawn = threading.Event(), []

    def draw(self, step, *, is_last):
        self.drawn.append((step, is_last))
        self.may_go_on.wait(10)


def test_figures_of_all_evaluations_are_drawn_for_the_last_that_waits():
    validation = Validation.__new__(Validation)
    validation._gallery = slow = Slow()
    validation._draws = True
    with validation:
        for step in (10, 20, 30):
            validation.draw(step)
            while not slow.drawn:  # so that the first is drawn before the second comes
                time.sleep(0.01)
        slow.may_go_on.set()
    assert slow.drawn == [(10, True), (20, False), (30, True)]


def test_figures_that_were_not_asked_for_are_drawn_by_the_same_command(tmp_path, capsys):
    config = quick.get_config()
    config.train.duration = config.train.eval_every = "2 steps"
    folders = [tmp_path / name / "figures" for name in ("without", "with")]
    for folder in folders:
        train_and_evaluate(config, folder.parent)
        config.eval.figures = True
    assert not list(folders[0].glob("*.png"))
    assert capsys.readouterr().out.count("figures:") == 1
    train_and_evaluate(config, folders[0].parent)
    assert "drawing the figures of 1 evaluations" in capsys.readouterr().out
    names = {file.name for file in folders[1].glob("*.png")}
    assert len(names) == 6
    assert names == {file.name for file in folders[0].glob("*.png")}
    for name in names - {"learning_curves.png"}:  # which shows the clock
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert all((folder.parent / "report.html").is_file() for folder in folders)


def test_the_figures_of_an_evaluation_say_the_split_the_step_and_how_many(tmp_path, monkeypatch):
    dataset = open_synthetic(train=1, val=3, test=1, size=8)
    names, source = dataset.class_names, dataset.splits["val"]
    titles = []
    monkeypatch.setattr(figures, "confusion_matrix", lambda *given: titles.append(given[3]))
    monkeypatch.setattr(figures, "prediction_grid", lambda *given: titles.append(given[5]))
    task = make_task("exclusive", class_names=names)
    gallery = Gallery(tmp_path, source, names, task, read_headline("mIoU"))
    confusion = np.eye(len(names), dtype=int)
    history.save(tmp_path, 136, {1: np.zeros((8, 8), np.uint8)}, confusion)
    gallery._draw_evaluation(136)
    assert titles == ["validation, step 136, 3 images"] * 2
