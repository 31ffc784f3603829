"""The local posterior of a loaded target: potential, gradients, mini-batches."""
