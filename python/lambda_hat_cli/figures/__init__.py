"""Plots; every figure is drawn under one style and without TeX."""
