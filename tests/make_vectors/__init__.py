"""Writes tests/vectors/ anew: `make vectors`."""
