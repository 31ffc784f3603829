"""λ̂, ESS, R-hat, Monte-Carlo error, intervals and verdicts in NumPy."""
