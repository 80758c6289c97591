"""Benchmarks of Sessile: `python -m bench`. Nothing here is a test, and no test depends on a time."""
