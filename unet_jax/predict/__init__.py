"""From whole images to masks of their own size."""
