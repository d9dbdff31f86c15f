"""Studies: designs, their trials, and what runs them."""
