"""A trained model as a server: a page for readers, and masks for programs."""
