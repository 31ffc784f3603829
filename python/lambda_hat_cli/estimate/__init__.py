"""λ̂, ESS, R-hat, Monte-Carlo error, intervals and verdicts in NumPy."""

from lambda_hat_cli.estimate.interval import UnusableTrace as UnusableTrace
