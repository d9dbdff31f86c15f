"""The page that shows a run in one glance, from what the run left on the disk."""
