"""From outcomes to the committed summary and the page; and the faults that are put into traces."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from claims import Claim, claims
from judge import Outcome
from kinds import FAULTS, SAMPLERS
from outcomes import Family, missing, read_outcomes
from page import page
from summary import Provenance, Summary, duration, summarise
from trace_faults import EVERY, SCALED, chosen, digest, read_faulty, with_fault

from lambda_hat_cli.artifacts.store import read_record, write_record, write_text
from synthetic_runs import Case, autoregressive, markov_trace, run_row
from validation.sample_outcomes import GOOD

HERE = Provenance(date="2026-01-01", commit="abc", machine="a machine", cores=2, tasks=3, cpu_hours=0.5)
FAMILIES = {"bowl": Family("quadratic", 1000, 20, 0)}


def summary(name: str, outcomes: list[Outcome]) -> Summary:
    return summarise(name, outcomes, FAMILIES, HERE)


def test_a_summary_survives_its_file(tmp_path: Path) -> None:
    found = summary("oracles", [GOOD, replace(GOOD, llc=10.1), missing("bowl", "hmc")])
    write_record(tmp_path / "oracles.json", found)
    assert read_record(tmp_path / "oracles.json", Summary) == found
    (group,) = found.groups
    assert group.verdicts == {"reliable": 2, "uncertain": 0, "invalid": 0, "failed": 1}
    assert group.mean is not None
    assert group.mean.error == pytest.approx(0.005)


def test_claims_say_what_holds_what_fails_and_what_was_not_run() -> None:
    off = replace(GOOD, target="dish", llc=11.0)
    few = replace(GOOD, target="few")
    unknown = replace(GOOD, target="unknown", reference=None)
    lost = [missing("lost", "hmc")] * 20
    summaries = {
        "oracles": summary("oracles", [GOOD, off, unknown] * 20 + [few] * 19 + [missing("few", "hmc")] + lost),
        "broken-targets": summary("broken-targets", [replace(GOOD, target="displaced-1-nat")] * 3),
    }
    found = {claim.what: claim for claim in claims(summaries)}
    mean = found["hmc: mean over seeds, every family"]
    assert (mean.holds, mean.found) == (False, "1 of 5 families (not: dish, unknown, few, lost)")
    assert found["broken runs: not both reliable and at_minimum"].found.startswith("0 %")
    assert found["hmc: order of deep linear nets whose intervals do not overlap"].holds is None
    text = page(summaries, ["## Another section"])
    assert "hmc on dish: the mean of 20 runs is off by 10 % (1 % allowed)" in text
    assert "few: 19 of 20 runs gave a number" in text
    assert "kind displaced: 3 of 3 accepted, 0 of 3 with a known value beyond tolerance" in text
    assert "`make validate ONLY=pairs` | – | not run" in text
    assert text.endswith("## Another section\n")


def claim(name: str, outcomes: list[Outcome], what: str) -> Claim:
    (found,) = [claim for claim in claims({name: summary(name, outcomes)}) if claim.what.startswith(what)]
    return found


def test_broken_runs_without_a_verdict_are_not_caught() -> None:
    caught = [replace(GOOD, sampler=kind, verdict="invalid") for kind in SAMPLERS]
    lost = [missing("bowl", kind) for kind in SAMPLERS]
    assert claim("broken-samplers", caught * 100, "broken").holds
    found = claim("broken-samplers", caught * 60 + lost * 40, "broken")
    assert (found.holds, found.found) == (False, "100 % of 900 runs of 15 kinds; 600 more have no verdict")
    accepted = replace(GOOD, sampler="vi-on-networks", reference=None)
    found = claim("broken-samplers", caught * 100 + [accepted] * 20, "broken")
    assert (found.holds, found.found.endswith("(not: vi-on-networks)")) == (False, True)
    (kind,) = summary("broken-samplers", [accepted]).kinds
    assert (kind.accepted, kind.compared, kind.wrong) == (1, 0, 0)


def test_coverage_counts_intervals_and_keeps_families_without_any() -> None:
    missed = replace(GOOD, low=10.1)
    families = [replace(run, target=f"bowl-{number}") for number in range(6) for run in [GOOD] * 190 + [missed] * 10]
    assert claim("coverage", families, "hmc: 95 %").holds
    assert not claim("coverage", families[1:], "hmc: 95 %").holds
    assert claim("coverage", [*families, missing("lost", "hmc")], "hmc: 95 %").found.endswith("(not: lost)")


def test_variational_families_without_enough_numbers_fail() -> None:
    fits = [replace(GOOD, target="quadratic", sampler="vi")] * 20
    assert claim("variational", fits, "vi on quadratics").holds
    lost = [replace(fit, target="quadratic-2", verdict="invalid", llc=None) for fit in fits]
    found = claim("variational", fits + lost, "vi on quadratics")
    assert (found.holds, found.found) == (False, "worst family 0 % (not: quadratic-2 × vi)")


def test_good_runs_are_those_at_a_minimum() -> None:
    above = replace(GOOD, minimum="above_minimum", verdict="invalid")
    assert claim("good", [GOOD] * 20 + [above] * 10, "good").holds
    assert not claim("good", [GOOD] * 19 + [above] * 11, "good").holds  # too few to say
    assert not claim("good", [GOOD] * 27 + [missing("bowl", "hmc")] * 3, "good").holds


def test_nextflows_durations() -> None:
    found = [duration(text) for text in ("1m 12s", "350ms", "1h 2s", "-")]
    assert found == pytest.approx([72, 0.35, 3602, 0])


def test_every_fault_is_put_where_it_says() -> None:
    trace = markov_trace(autoregressive(8, 100, 0.5, 10, 3, 0))
    before = trace.posterior["llc"]
    assert set(EVERY) | set(SCALED) == set(FAULTS)
    after = {fault: with_fault(trace, fault).posterior["llc"] for fault in FAULTS}
    assert np.all(after["stuck-chain"][0] == before[0, 0])
    assert np.array_equal(after["stuck-chain"][1:], before[1:])
    assert np.all(after["stuck-chains"][:4] == before[:4, :1])
    assert np.array_equal(after["half-stuck-chain"][0, :51], before[0, :51])
    assert np.all(after["half-stuck-chain"][0, 50:] == before[0, 50])
    assert np.array_equal(after["copied-chain"], np.tile(before[0], (8, 1)))
    assert np.allclose(after["drift"][:, 0], 0.75 * before[:, 0])
    assert np.array_equal(after["drift"][:, -1], before[:, -1])
    assert np.isnan(after["not-finite"]).sum() == 5
    assert np.allclose(after["shifted-chain"][0], 1.5 * before[0])
    assert np.allclose(after["chain-at-w-star"][0], 1e-3 * before[0])
    energy = with_fault(trace, "stuck-chain").sample_stats["energy"]
    assert np.all(energy[0] == energy[0, 0])


def test_bad_arithmetic_breaks_the_posterior_as_the_page_says() -> None:
    """By sums over a grid, with the constants of broken-targets.yml: steps of 1/16 and d = 20; w⁴ and d = 4."""
    t = 1000 / np.log(1000)
    exact = np.linspace(1e-4, 120, 400_000)
    rounded = t / 16 * np.round(16 * exact / t)
    density = exact**9 * np.exp(-rounded)
    assert np.sum(density * rounded) / np.sum(density) == pytest.approx(8.1, abs=0.03)
    end = np.sqrt(np.sqrt(np.finfo(np.float32).max) / 3e20)
    for edge, expected in ((end, 0.36), (3.0, 0.97)):
        w = np.linspace(0, edge, 200_000)
        density = np.exp(-t * w**4 - 0.5 * w**2)
        assert 4 * np.sum(density * t * w**4) / np.sum(density) == pytest.approx(expected, abs=0.005)


def test_a_faulty_run_without_an_analysis_is_missing(tmp_path: Path) -> None:
    (found,) = read_faulty(tmp_path, [run_row(Case(row={"target": "bowl"}))], "drift")
    assert (found.target, found.sampler, found.verdict) == ("bowl", "drift", None)


def test_faults_are_put_into_reliable_runs_and_redone_when_sources_or_runs_change(tmp_path: Path) -> None:
    row = run_row(Case(row={"target": "bowl"}))
    rows = [row.model_copy(update={"id": f"{number:016x}"}) for number in range(12)]
    ids = [row.id for row in rows]
    ((folder, runs),) = chosen(rows, ids[2:]).items()
    assert folder == f"bowl-{row.target_id[:8]}"
    assert [row.id for row in runs] == ids[2:10]
    stages = tmp_path / "stages.json"
    stages.write_text("{}", encoding="utf-8")
    before = digest(stages, rows)
    assert digest(stages, rows) == before != digest(stages, rows[1:])
    stages.write_text('{"analyze": {}}', encoding="utf-8")
    assert digest(stages, rows) != before


def test_an_analysis_of_an_earlier_start_is_not_read(tmp_path: Path) -> None:
    heads, cells = "target,target_id,sampler,folder,verdict", "bowl,0,hmc,bowl-hmc-0,"
    (tmp_path / "summary").mkdir()
    (tmp_path / "runs" / "bowl-hmc-0").mkdir(parents=True)
    write_text(tmp_path / "summary" / "results.csv", f"{heads}\n{cells}\n")
    write_text(tmp_path / "runs" / "bowl-hmc-0" / "analysis.json", "{}")
    (found,) = read_outcomes(tmp_path)
    assert (found.target, found.sampler, found.verdict) == ("bowl", "hmc", None)
