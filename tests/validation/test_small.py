"""The small validation: known values through the real pipeline. A family that leaves its band fails.

A band is the Monte-Carlo error of its own mean, measured over the replicates, times Student's quantile for all
comparisons together: a sound pipeline fails here less than once in a thousand (test_judge.py adds the tails up). Sound
allows that a run in a hundred gives no number, which is a comparison of its own.
"""

from pathlib import Path

import pytest
from judge import (
    SILENT_SHARE,
    WRONG_SHARE,
    band,
    coverage,
    critical_value,
    least_covered,
    most,
    wrong_share,
)
from outcomes import read_outcomes

from pipeline.nextflow_run import PROJECT, run_pipeline

pytestmark = pytest.mark.nextflow

RUNS = 20
# What each family's mean may be off beyond its noise: the early stop's own bias, and what an unadjusted sampler
# corrects to first order only.
FAMILIES = {
    ("quadratic-rank-6", "hmc"): 0.01,
    ("quadratic-rank-6", "mclmc"): 0.02,
    ("quadratic-rank-6", "sgld"): 0.02,
    ("quadratic-rank-6", "vi"): 0.005,
    ("crossing-1-1", "hmc"): 0.01,
    ("crossing-1-1", "mclmc"): 0.02,
    ("crossing-1-1", "sgld"): 0.02,
}
# One band a family; counts of the intervals that hold the value, of reliable runs beyond tolerance, of runs without a
# number.
COMPARISONS = len(FAMILIES) + 3


def test_every_family_stays_in_its_band(tmp_path: Path) -> None:
    experiment = str(PROJECT / "validation" / "experiments" / "small.yml")
    run = run_pipeline(tmp_path, "--experiment", experiment, "--diagnostics", "none", seconds=1200)
    assert run.status == 0, run.output
    outcomes = list(read_outcomes(run.outdir))
    judged = [outcome for outcome in outcomes if (outcome.target, outcome.sampler) in FAMILIES]
    assert len(judged) == RUNS * len(FAMILIES)
    silent = [(o.target, o.sampler, o.verdict) for o in judged if o.llc is None]
    assert len(silent) <= most(len(judged), SILENT_SHARE, COMPARISONS), silent
    left = []
    for (target, sampler), allowance in FAMILIES.items():
        runs = [o for o in judged if (o.target, o.sampler) == (target, sampler) and o.llc is not None]
        values = [run.llc for run in runs]
        reference = runs[0].reference
        assert reference is not None
        critical = critical_value(len(values), COMPARISONS)
        found = band(values, reference, runs[0].reference_se, allowance, critical)
        if not found.within:
            left.append((target, sampler, found))
    assert not left
    held = coverage(judged)
    assert held.hits >= least_covered(held.runs, COMPARISONS)
    reliable = wrong_share(outcomes)
    assert reliable.hits <= most(reliable.runs, WRONG_SHARE, COMPARISONS)
