"""Benchmarks; figures are noisy, so read the ratios."""
