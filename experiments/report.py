"""Writes a report about a sweep or runs; see `unet_jax.report`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("unet_jax.report", run_name="__main__", alter_sys=True)
