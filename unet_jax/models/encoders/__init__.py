"""Contracting paths that are networks of their own."""
