"""An engine that makes trials up."""

import json
import math

from unet_jax.errors import StoppedError
from unet_jax.runs.results import write_results

STEPS = 6


def score_of(config, step):
    """The best learning rate is 1e-2, with flips; later steps are better."""
    distance = abs(math.log10(config["optim"]["learning_rate"]) + 2)
    return (1 - distance / 4 - 0.1 * (not config["augment"]["flip"]["left_right"])) * step / STEPS


class Pretend:
    """An engine whose trials take a step of two at every look, and a score at each."""

    def __init__(self, fails=()):
        self.jobs, self.steps, self.status, self.fails = {}, {}, {}, fails
        self.cancelled, self.submitted, self.most = [], [], 0
        self.looks, self.stop_after = 0, None

    def submit(self, jobs):
        for job in jobs:
            if self.status.get(job.name) not in ("waiting", "running"):
                self.submitted.append(job.name)
                self.jobs[job.name], self.status[job.name] = job, "running"
                file = job.trials[0] / "metrics.jsonl"
                self.steps[job.name] = len(file.read_text().splitlines()) if file.exists() else 0

    def watch(self):
        self.looks += 1
        if self.stop_after and self.looks > self.stop_after:
            raise StoppedError("", 15)
        running = [name for name, status in self.status.items() if status == "running"]
        self.most = max(self.most, len(running))
        for name in running:
            self._advance(name, self.jobs[name].trials[0])
        return dict(self.status)

    def _advance(self, name, folder):
        if len(self.submitted) - 1 in self.fails and name == self.submitted[-1]:
            self.status[name] = "failed"
            return
        self.steps[name] += 1
        step, config = self.steps[name], json.loads((folder / "config.json").read_text())
        score = score_of(config, step)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "val/mIoU": score}) + "\n")
        if step == STEPS:
            others = dict.fromkeys(("pixel_accuracy", "mDice", "mean_class_accuracy"), score)
            val = {"step": step, "mIoU": score, **others}
            write_results(folder, val=val, train={"step": step, "best_step": step})
            self.status[name] = "done"

    def cancel(self, names=None):
        for name in self.status if names is None else names:
            if self.status[name] == "running":
                self.cancelled.append(name)
                self.status[name] = "failed"
