"""Metrics: counts by image, and scores from weighted sums of counts."""
