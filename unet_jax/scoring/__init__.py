"""Scores of masks, whoever predicted them, by the definitions that are in use."""
