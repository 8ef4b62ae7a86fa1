"""Benchmarks against real clusters; docs/benchmarks.md says what each measures. `python -m benchmarks.NAME`."""
