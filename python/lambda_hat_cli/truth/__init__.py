"""Exact learning coefficients and exact finite-t values; no JAX."""
