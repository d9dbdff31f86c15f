"""Where the scalars of a run go beside its metrics.jsonl; a tracker is a file here and its row."""
