"""Tables over all runs and the self-contained HTML page."""
