"""Figures that teach what convolutions, poolings and U-Nets do."""
