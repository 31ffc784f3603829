"""The samplers, and the driver that runs them in blocks."""
