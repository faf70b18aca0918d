"""Benchmarks that run several implementations of the same job on one machine and compare throughput and costs."""
