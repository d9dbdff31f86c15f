"""Trains several trials as one program."""
