"""Optimisers: their schedules, what they average, and which parts of a model they move."""
