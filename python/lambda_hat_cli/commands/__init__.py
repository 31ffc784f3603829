"""One click command a stage: argument handling and nothing else."""
