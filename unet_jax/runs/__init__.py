"""A run's folder: checkpoints, logs, scores, figures, and models restored from it."""
