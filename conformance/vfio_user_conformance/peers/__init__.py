"""Servers of other implementations, made to show all that the suite can exercise."""
