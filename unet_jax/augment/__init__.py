"""Augmentation: pure functions of (batch, key) that run on the device inside the train step."""
