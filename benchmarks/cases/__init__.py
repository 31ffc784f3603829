"""The benchmark cases, a module each."""
