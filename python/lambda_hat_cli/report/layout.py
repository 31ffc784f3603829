"""What the pictures of the summary folder are called."""

OVERVIEW = "llc_convergence_combined.png"
CONVERGENCE = "llc_convergence"
TRAINING = "training"
TEMPERATURES = "temperatures"
CHECKPOINTS = "checkpoints"
LOCALIZATIONS = "localizations"
GRIDS = "grids"
