"""unet_jax: U-Nets for semantic segmentation in JAX and Flax."""
