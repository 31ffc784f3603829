"""The kinds of broken runs: which runs belong to each, and what makes them broken by construction."""

from judge import Outcome

# By the target's name, in the experiment broken-targets.
TARGETS = {
    "displaced": "w* moved off the minimum by .5 to 5 nats: λ̂ there is no estimate of λ",
    "wrong-data": "w* is the least-squares solution of other data of the same law, d/log n nats above the minimum",
    "rounding": "the loss rounded to float32 beside 1e6, tK in steps of 9 nats: its mean becomes 8.1 instead of 10",
    "overflow": "the loss overflows float32 at w² = .06 and cuts the posterior there: E[tK] becomes .36 instead of .97",
    "undertrained": "w* after 300 steps of training, far above a minimum",
}

# By the sampler's name, in the experiments broken-samplers, broken-networks and broken-families.
SAMPLERS = {
    "sgld-steps-10": "step size by hand, 10 times what `auto` takes: beyond stability or strongly biased",
    "sgld-steps-100": "step size by hand, 100 times what `auto` takes",
    "sgld-moving-rmsprop": "a moving preconditioner: the stationary law is not the posterior",
    "sgld-moving-adam": "a moving preconditioner and momentum: the stationary law is not the posterior",
    "hmc-steps-tiny": "one leapfrog step of about .03 times the good size: chains cannot have left w* in this budget",
    "hmc-steps-huge": "acceptance target .03 without jitter: a few accepted moves in this budget",
    "mclmc-steps-huge": "energy error 1e5 times the default: the step is beyond what its correction expands in",
    "hmc-too-short": "a budget of 4,000 gradients",
    "mclmc-too-short": "a budget of 6,000 gradients",
    "sgld-too-short": "a budget of 4,000 gradients",
    "hmc-unrelaxed": "30,000 gradients on networks at γ = 1, whose flat directions need many times that",
    "mclmc-unrelaxed": "30,000 gradients on networks at γ = 1",
    "sgld-unrelaxed": "30,000 gradients on networks at γ = 1",
    "vi-on-networks": "a mixture of factor analyzers on networks: no such family holds the posterior",
    "vi-mean-field": "a mean-field Gaussian on a rotated quadratic of condition 100 and more",
}

# By the fault that trace_faults.py puts into finished runs.
FAULTS = {
    "stuck-chain": "one chain stands still at its first draw",
    "stuck-chains": "four chains stand still, each at its first draw",
    "chain-at-w-star": "one chain never left w*: its tK is a thousandth of what it should be",
    "half-stuck-chain": "one chain stands still in the second half",
    "drift": "tK starts a quarter too low in every chain and reaches its level with the last draw",
    "copied-chain": "every chain is a copy of the first: an eighth of the evidence that is claimed",
    "not-finite": "a stretch of one chain is not finite",
    "shifted-chain": "one chain samples another mode: its tK is half as large again",
}


def kind_of(outcome: Outcome) -> str:
    """The kind that a run of a broken experiment belongs to.

    Raises:
        KeyError: when neither its sampler nor its target is of a known kind.
    """
    if outcome.sampler in SAMPLERS or outcome.sampler in FAULTS:
        return outcome.sampler
    for name in TARGETS:
        if outcome.target.startswith(name):
            return name
    raise KeyError(f"{outcome.target} × {outcome.sampler}")


MEANING = {**TARGETS, **SAMPLERS, **FAULTS}
