"""A run as it should be, which the validation's tests change."""

from judge import Outcome

GOOD = Outcome(
    target="bowl",
    sampler="hmc",
    verdict="reliable",
    status="completed",
    minimum="at_minimum",
    llc=10.0,
    low=9.6,
    high=10.4,
    reference=10.0,
    reference_se=0.0,
    limit=10.0,
    tolerance=0.05,
    claimed=0.5,
    gradients=1e4,
)
