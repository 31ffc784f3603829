"""Local learning coefficients with intervals and verdicts: the stages of the pipeline as a package."""
