"""Reports about sweeps and runs."""
