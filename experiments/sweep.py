"""Runs the trials of a study; see `unet_jax.studies.sweep`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("unet_jax.studies.sweep", run_name="__main__", alter_sys=True)
