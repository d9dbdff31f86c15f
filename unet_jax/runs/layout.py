"""Names of the files and folders that a run's directory holds."""

CHECKPOINTS, FIGURES, TENSORBOARD = "checkpoints", "figures", "tensorboard"
EVALUATIONS, TRACKERS, CARDS = "evaluations", "trackers", "cards"
CONFIG, RUN, METRICS, RESULTS = "config.json", "run.json", "metrics.jsonl", "results.json"
SPLIT, STATISTICS = "split.json", "statistics.json"
LOOKS, STUDY = "evaluations.jsonl", "study.json"
CLASS_WEIGHTS, DURATION = "class_weights.json", "duration.json"
# Names of an evaluation by split: "train" in results.json is what training says of itself.
ENTRIES = {"val": "val", "test": "test", "train": "train_split"}
# The page that shows a run, and what it says of who wrote it.
REPORT, REPORT_BY = "report.html", "unet_jax, of a run"
