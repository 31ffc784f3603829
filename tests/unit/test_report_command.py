"""The report command as a process, on a plan with results of every sort: all planned runs appear, unknown is empty."""

import base64
import csv
import html
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from pydantic import TypeAdapter

from lambda_hat_cli.artifacts.analysis import AnalysisFolder, AnalysisRecord, Check, ErrorTerm, FiniteT
from lambda_hat_cli.artifacts.failure import FailureNote
from lambda_hat_cli.artifacts.request import TaskRequest
from lambda_hat_cli.artifacts.run import Descent, Environment, RunRecord
from lambda_hat_cli.artifacts.store import write_record
from lambda_hat_cli.artifacts.target import TargetRecord, TrainingRecord, Truth
from lambda_hat_cli.experiment.rows import PlanRecord, RunRow, TargetRow
from lambda_hat_cli.experiment.schema import (
    Experiment,
    HmcSettings,
    PosteriorSettings,
    RunSettings,
    SamplerEntry,
    SamplerSettings,
    TargetEntry,
    TargetSection,
    TargetSpec,
)
from lambda_hat_cli.figures import combined
from lambda_hat_cli.figures.grids import GridPoint
from lambda_hat_cli.figures.marks import Mark
from lambda_hat_cli.provenance import import_closure
from lambda_hat_cli.report import console, numbers, page, plain
from lambda_hat_cli.report.collect import Collection, PlannedRun, PlannedTarget, collect
from lambda_hat_cli.report.grids import GridGroup, grid_panel
from lambda_hat_cli.report.requests import TaskRow, request_rows
from lambda_hat_cli.report.results import ResultRow
from lambda_hat_cli.report.summary import write_summary
from lambda_hat_cli.report.sweeps import sweeps_of
from lambda_hat_cli.report.temperatures import temperature_panel
from lambda_hat_cli.truth.finite_t import quadratic_mean

ROOT = Path(__file__).resolve().parents[2]
NASTY = '<script>alert("x")</script>'
COLUMNS = [
    "experiment", "target", "target_id", "sampler", "run_id", "replicate", "precision", "status", "verdict", "llc",
    "llc_se", "llc_low", "llc_high", "truth", "truth_kind", "finite_t_value", "finite_t_se", "finite_t_kind",
    "relative_error", "relative_error_limit", "minimum", "delta", "rhat", "ess", "gradients", "seconds_sampling",
    "seconds_total", "n", "d", "beta", "gamma",
]  # fmt: skip

SPECS = {
    "quadratic": {"model": {"kind": "quadratic", "curvatures": [1.0] * 20}},
    "tanh-mlp": {"model": {"kind": "mlp", "widths": [10, 16, 16, 1]}},
    "unbuilt": {
        "model": {"kind": "deep_linear", "widths": [10, 10]},
        "data": {"kind": "teacher", "rank": 3},
        "at": "truth",
    },
}
TRUTHS = {
    "quadratic": Truth(coefficient="10", multiplicity=1, kind="exact_global", source="d/2, regular model"),
    "tanh-mlp": Truth(coefficient=None, multiplicity=None, kind="none", source="no closed form for a trained network"),
}
PARAMETERS = {"quadratic": 20, "tanh-mlp": 465, "unbuilt": 100}


def target_row(name: str, shown: str) -> TargetRow:
    spec = TargetSpec.model_validate(SPECS[name])
    identity = f"{list(SPECS).index(name):016x}"
    return TargetRow(
        id=identity,
        name=shown,
        entry=shown,
        folder=f"{name}-{identity[:8]}",
        spec=spec,
        seed=1,
        d=PARAMETERS[name],
        n=1000,
        code={},
        pack="0" * 16,
    )


def run_row(target: TargetRow, sampler: str, number: int, **changes: object) -> RunRow:
    settings = TypeAdapter(SamplerSettings).validate_python({"kind": sampler})
    identity = f"{number:016x}"
    return RunRow(
        id=identity,
        folder=f"{target.folder}-{sampler}-{identity[:8]}",
        target=target.name,
        target_id=target.id,
        target_kind=target.spec.model.kind,
        sampler=sampler,
        settings=settings,
        posterior=PosteriorSettings(localization=1.0),
        runs=RunSettings(),
        replicate=0,
        seed=number,
        precision=settings.precision,
        d=target.d,
        n=target.n,
        code={},
        pack=identity,
    ).model_copy(update=changes)


def target_record(row: TargetRow, key: str) -> TargetRecord:
    trained = key == "tanh-mlp"
    return TargetRecord(
        id=row.id,
        name=row.name,
        spec=row.spec,
        seed=row.seed,
        likelihood="gaussian" if trained else "own",
        scale=0.1 if trained else None,
        n=1000,
        d=PARAMETERS[key],
        loss_at_w_star=0.4987654321 if trained else 0.0,
        gradient_norm=3.2e-4 if trained else 0.0,
        held_out_loss=0.61 if trained else None,
        training=TrainingRecord(steps=5000, recorded_steps=(0, 5000), losses=(51.2, 0.49), held_out_losses=(52.0, 0.61))
        if trained
        else None,
        truth=TRUTHS[key],
        versions={"jax": "0.10.2", "optax": "0.2.8"},
        code={},
        checksums={},
    )


def analysis_record(row: RunRow, key: str, llc: float | None, verdict: str, reasons: tuple[str, ...]) -> AnalysisRecord:
    nbeta = 1000 / math.log(1000)
    finite_t = nbeta / (nbeta + 1) * 10 if key == "quadratic" else None
    settled = llc is not None
    run = RunRecord(
        id=row.id,
        target_id=row.target_id,
        sampler=row.sampler,
        settings=row.settings,
        posterior=row.posterior,
        runs=row.runs,
        replicate=row.replicate,
        seed=row.seed,
        precision=row.precision,
        status="completed" if verdict == "reliable" else "budget_exhausted",
        reason=None,
        n=1000,
        d=PARAMETERS[key],
        inverse_temperature=1 / math.log(1000),
        localization=1.0,
        nbeta=nbeta,
        chains=8,
        draws=1200,
        tuned={"step_size": 0.0123456, "curvature": None},
        biased=None,
        descent=Descent(delta=0.0123, gradient_norm=0.1, iterations=20, distance=0.01),
        gradients={"warmup": 12000.0, "sampling": 192000.5},
        gradient_evaluations={"warmup": 12000, "sampling": 192001},
        seconds={"descent": 0.1, "warmup": 1.25, "sampling": 7.5, "total": 9.25},
        peak_memory_bytes=512 * 2**20,
        environment=Environment(
            precision=row.precision,
            prng_implementation="threefry2x32",
            platform="cpu",
            device="TFRT_CPU_0",
            threads=1,
            python="3.11.9",
            versions={"jax": "0.10.2", "equinox": "0.13.8"},
        ),
        code={},
    )
    return AnalysisRecord(
        run_id=row.id,
        target="a name that was cached",
        target_id=row.target_id,
        target_kind=row.target_kind,
        sampler=row.sampler,
        folder=row.folder,
        replicate=row.replicate,
        llc=llc,
        llc_se=0.05 if settled else None,
        llc_low=llc - 0.105 if settled else None,
        llc_high=llc + 0.105 if settled else None,
        ess_mean=5012.7 if settled else None,
        ess_bulk=4000.1 if settled else None,
        ess_tail=4100.2 if settled else None,
        rhat=1.0013 if settled else None,
        llc_variance=9.9 if settled else None,
        llc_variance_se=0.4 if settled else None,
        llc_slope=llc - 9.9 if llc is not None else None,
        llc_slope_se=0.5 if settled else None,
        verdict=verdict,
        reasons=reasons,
        checks=(
            Check(name="all draws finite", value=1.0, reliable="yes", uncertain="–", outcome="reliable", reason=""),
            Check(
                name="R-hat",
                value=1.0013,
                reliable="≤ 1.02",
                uncertain="≤ 1.1",
                outcome=verdict,
                reason=" ".join(reasons),
            ),
        ),
        minimum="at_minimum",
        minimum_reason=None,
        delta=0.0123,
        error_budget=(ErrorTerm(name="Monte Carlo", value=0.105, note="2.1 standard errors"),),
        stated_error=0.105,
        truth=TRUTHS[key],
        finite_t=FiniteT(
            value=finite_t,
            se=None,
            kind="none" if finite_t is None else "exact",
            source="closed form of a Gaussian integral",
        ),
        relative_error=llc / finite_t - 1 if settled and finite_t else None,
        relative_error_limit=llc / 10 - 1 if settled and finite_t else None,
        n=1000,
        d=PARAMETERS[key],
        beta=1 / math.log(1000),
        gamma=1.0,
        nbeta=nbeta,
        run=run,
    )


def write_analysis(folder: Path, record: AnalysisRecord) -> None:
    folder.mkdir(parents=True)
    write_record(folder / "analysis.json", record)
    generator = np.random.default_rng(record.run.seed)
    lines = ["gradients,seconds,draws,llc,low,high"]
    for point in range(1, 13) if record.llc is not None else ():
        width = 0.105 * math.sqrt(12 / point)
        llc = record.llc + (0.5 * width * generator.standard_normal() if point < 12 else 0.0)
        lines.append(f"{12000 + 16000 * point},{point / 2},{100 * point},{llc!r},{llc - width!r},{llc + width!r}")
    (folder / "convergence.csv").write_text("\n".join(lines) + "\n")
    for name in ("trace", "rank_energy", "llc_convergence"):
        figure = Figure(figsize=(7, 3))
        figure.subplots().plot(generator.standard_normal(200).cumsum())
        figure.savefig(folder / f"{name}.png")


class Case:
    """A plan in a folder, its results beside it."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("plan", "analyses", "targets", "failures"):
            (folder / name).mkdir()
        self.quadratic, self.mlp, self.unbuilt = (
            target_row(name, shown)
            for name, shown in (("quadratic", "quadratic"), ("tanh-mlp", NASTY), ("unbuilt", "unbuilt"))
        )
        self.runs = [
            run_row(self.quadratic, "hmc", 10),
            run_row(self.quadratic, "sgld", 11),
            run_row(self.quadratic, "hmc", 12, replicate=1),
            run_row(self.mlp, "vi", 13),
            run_row(self.mlp, "mclmc", 14),
            run_row(self.mlp, "hmc", 15),
            run_row(self.unbuilt, "hmc", 16),
        ]
        plan = folder / "plan"
        targets = (self.quadratic, self.mlp, self.unbuilt)
        (plan / "targets.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in targets))
        (plan / "runs.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in self.runs))
        experiment = Experiment(
            name="mixed",
            targets=tuple(
                TargetEntry(name=key, spec=TargetSection.model_validate(spec)) for key, spec in SPECS.items()
            ),
            samplers=(SamplerEntry(name="hmc", settings=HmcSettings(kind="hmc")),),
        )
        record = PlanRecord(source="mixed.yml", set="runs.tolerance=0.02", experiment=experiment)
        write_record(plan / "experiment.json", record)
        (plan / "stages.json").write_text(json.dumps({"report": import_closure("lambda_hat_cli.commands.report")}))

    def add_results(self) -> None:
        for row, key in ((self.quadratic, "quadratic"), (self.mlp, "tanh-mlp")):
            (self.folder / "targets" / key).mkdir()
            write_record(self.folder / "targets" / key / "target.json", target_record(row, key))
        results = (
            (self.runs[0], "quadratic", 9.93123456789, "reliable", ()),
            (
                self.runs[1],
                "quadratic",
                10.2,
                "uncertain",
                ("The interval is wider than the tolerance: give a larger budget.",),
            ),
            (self.runs[2], "quadratic", 9.9, "reliable", ()),
            (self.runs[3], "tanh-mlp", None, "invalid", ("k̂ is 3.1: the fit does not cover the posterior.",)),
        )
        # The newest first, so that plan order is not the folders' order.
        for place, (row, key, llc, verdict, reasons) in enumerate(reversed(results)):
            write_analysis(self.folder / "analyses" / f"{place}", analysis_record(row, key, llc, verdict, reasons))
        notes = (
            FailureNote(stage="sample", id=self.runs[4].id, message=f"a row that says {NASTY} is refused"),
            FailureNote(stage="build_target", id=self.unbuilt.id, message="teacher.py: missing"),
        )
        for note in notes:
            write_record(self.folder / "failures" / f"{note.id}.json", note)

    def add_requests(self) -> None:
        """Of a pack of both samplers, of a run that was tried twice, and of one that left nothing."""
        (self.folder / "requests").mkdir()
        requests = (
            TaskRequest(runs=(self.runs[0].id, self.runs[1].id), cpus=1, memory=2**31, seconds=1860, attempt=1),
            TaskRequest(runs=(self.runs[2].id,), cpus=2, memory=2**32, seconds=2000, attempt=2),
            TaskRequest(runs=(self.runs[5].id,), cpus=1, memory=2**31, seconds=None, attempt=1),
        )
        for number, request in enumerate(requests):
            write_record(self.folder / "requests" / str(number), request)

    def report(self, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
        names = ("plan", "analyses", "targets", "failures", *names)
        options = [f"--{name}={self.folder / name}" for name in names]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [
                ROOT / "bin/report",
                *options,
                f"--stages={self.folder / 'plan/stages.json'}",
                f"--out={self.folder / 'summary'}",
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path, **environment},
            timeout=120,
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    made = Case(tmp_path_factory.mktemp("report"))
    made.add_results()
    made.add_requests()
    done = made.report("requests")
    assert (done.returncode, done.stderr) == (0, "")
    return made


@pytest.fixture(scope="module")
def rows(case: Case) -> list[dict[str, str]]:
    with (case.folder / "summary/results.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_csv_has_the_contract_columns_and_every_run_in_plan_order(case: Case, rows: list[dict[str, str]]) -> None:
    assert list(rows[0])[: len(COLUMNS)] == COLUMNS
    assert [row["run_id"] for row in rows] == [row.id for row in case.runs]
    assert [row["status"] for row in rows] == [
        "completed", "budget_exhausted", "completed", "budget_exhausted", "failed", "missing", "failed",
    ]  # fmt: skip
    assert [row["verdict"] for row in rows] == ["reliable", "uncertain", "reliable", "invalid", "", "", ""]
    assert rows[3]["target"] == NASTY, "the plan's name counts, not the one of a cached analysis"


def test_numbers_round_trip_and_the_unknown_is_empty(case: Case, rows: list[dict[str, str]]) -> None:
    record = analysis_record(case.runs[0], "quadratic", 9.93123456789, "reliable", ())
    for column, value in {
        "llc": record.llc, "llc_low": record.llc_low, "finite_t_value": record.finite_t.value, "beta": record.beta,
        "relative_error": record.relative_error, "truth": 10.0, "gradients": 204000.5, "seconds_sampling": 7.5,
        "seconds_total": 9.25, "ess": 5012.7, "nbeta": record.nbeta,
    }.items():  # fmt: skip
        assert float(rows[0][column]) == value, column
    for row in rows[3:]:
        assert [row[name] for name in ("llc", "llc_se", "llc_low", "llc_high", "rhat", "ess")] == [""] * 6
    for row in rows[4:]:
        assert [row[name] for name in ("delta", "minimum", "gradients", "seconds_total", "finite_t_value")] == [""] * 5
    assert rows[6]["truth"] == rows[6]["truth_kind"] == ""
    assert (rows[6]["n"], rows[6]["d"], float(rows[6]["beta"]), rows[6]["gamma"]) == ("1000", "100", record.beta, "1.0")


def test_reasons_name_the_stage(rows: list[dict[str, str]]) -> None:
    assert rows[4]["reason"] == f"sampling failed: a row that says {NASTY} is refused"
    assert rows[5]["reason"].startswith("no result of sampling or analysis: the task was killed or crashed")
    assert rows[6]["reason"] == "building the target failed: teacher.py: missing"


def test_parquet_holds_the_same_rows_typed(case: Case, rows: list[dict[str, str]]) -> None:
    table = pq.read_table(case.folder / "summary/results.parquet")
    assert table.column_names == list(rows[0])
    types = {name: table.schema.field(name).type for name in table.column_names}
    assert {name for name, kind in types.items() if kind == pa.int64()} == {"replicate", "n", "d"}
    assert types["llc"] == types["gamma"] == types["gradients"] == pa.float64()
    assert types["verdict"] == types["reason"] == pa.string()
    for row, typed in zip(rows, table.to_pylist(), strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in typed.items()}


def test_counts_for_the_exit_status(case: Case) -> None:
    counts = json.loads((case.folder / "summary/counts.json").read_text())
    assert counts == {"planned": 7, "completed": 4, "failed": 2, "missing": 1}


def test_page_shows_every_run_and_loads_nothing(case: Case) -> None:
    page = (case.folder / "summary/report.html").read_text(encoding="utf-8")
    for row in case.runs:
        assert f'id="run-{row.id}"' in page
    assert "&lt;script&gt;" in page
    assert not [text for text in (NASTY, "<script", "<link", "url(", "@import") if text in page]
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len([source for source in sources if source.startswith("data:image/png;base64,")]) == 1 + 2 + 1 + 4 * 3
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page)) == len(re.findall("<img ", page))
    anchors = set(re.findall(r'id="([^"]*)"', page))
    assert all(source[1:] in anchors for source in sources if source.startswith("#"))
    for text in (
        "9.93 ± 0.11",
        "9.83 to 10.04",
        "runs.tolerance=0.02",
        "usual outcome for a network",
        "teacher.py: missing",
    ):
        assert text in page


def test_the_page_has_what_tasks_asked_for_and_used(case: Case) -> None:
    page = (case.folder / "summary/report.html").read_text(encoding="utf-8")
    (section,) = re.findall(r'<section aria-labelledby="requests">.*?</section>', page, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in section.split("<tr>")[2:]]
    # Both runs took 512 MiB and 9.25 s; the pack's time is that of both.
    assert cells == [
        ["quadratic", "hmc, sgld", "1", "2", "1", "2\u202f048 MiB", "512 MiB (25 %)", "1\u202f860", "18 (1 %)"],
        ["quadratic", "hmc, after 2 attempts", "1", "1", "2", "4\u202f096 MiB", "512 MiB (12 %)", "2\u202f000",
         "9.2 (&lt; 1 %)"],
    ]  # fmt: skip
    assert "No task came near" in section


def test_each_task_has_a_line_with_what_it_asked_for_and_used(case: Case) -> None:
    with (case.folder / "summary/requests.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.reader(stream))
    first, second, third, lost = (case.runs[place].id for place in (0, 1, 2, 5))
    assert lines == [
        [
            "target", "samplers", "runs", "cpus", "attempt", "memory_asked", "memory_used", "seconds_asked",
            "seconds_used", "run_ids",
        ],
        ["quadratic", "hmc, sgld", "2", "1", "1", "2147483648", "536870912", "1860", "18.5", f"{first} {second}"],
        ["quadratic", "hmc", "1", "2", "2", "4294967296", "536870912", "2000", "9.25", third],
        [NASTY, "hmc", "1", "1", "1", "2147483648", "", "", "", lost],
    ]  # fmt: skip


def requests_section(case: Case, tasks: Sequence[TaskRow]) -> str:
    collection = collect(*(case.folder / name for name in ("plan", "analyses", "targets", "failures")))
    text = page.page(collection, sweeps_of(collection), request_rows(tasks), case.folder / "summary")
    return " ".join(text.partition('<section aria-labelledby="requests">')[2].partition("</section>")[0].split())


def task_row(target: str, **changes: object) -> TaskRow:
    given = {"memory_asked": 1000, "memory_used": 500, "seconds_asked": 100, "seconds_used": 50.0}
    return TaskRow.model_validate(
        {"target": target, "samplers": "hmc", "runs": 1, "cpus": 1, "attempt": 1, "run_ids": "", **given, **changes}
    )


def test_the_page_names_requests_that_were_nearly_used_up_or_hardly_used(case: Case) -> None:
    tasks = (
        task_row("narrow", memory_used=100),
        task_row("narrow", memory_used=900),
        task_row("slow", seconds_used=95.0),
        task_row("roomy", memory_used=99, seconds_asked=None),
        task_row("free", memory_asked=None, seconds_asked=None),
        task_row("lost", memory_used=None, seconds_used=None),
    )
    section = requests_section(case, tasks)
    # The task of "narrow" that used less of its memory is not the one that is shown.
    assert "Nearly all of a task's memory was used: narrow / hmc. A similar one may be killed" in section
    assert "Nearly all of a task's time was used: slow / hmc. A similar one may be cut short" in section
    assert "Less than a tenth of the memory was used by each task: roomy / hmc. With less" in section
    assert "No task came near" not in section
    assert re.findall(r'<tr><th scope="row">([^<]*)<', section) == ["slow", "narrow", "roomy", "free"]
    assert 'data-label="time used, s"><strong class="part">95 (95 %)</strong><' in section
    assert 'data-label="memory asked">–<' in section
    nothing = requests_section(case, ())
    assert nothing == ""


def test_many_targets_leave_the_table_of_requests_short(case: Case) -> None:
    full = [task_row(f"t{number}", memory_used=1000 - number) for number in range(23)]
    section = requests_section(case, full)
    assert section.count('<th scope="row">') == 20
    assert "3 more lines used smaller parts" in section
    assert "was used: t0 / hmc; t1 / hmc; t2 / hmc and 20 more. A similar" in section
    assert "more lines" not in requests_section(case, full[:20])


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "25 %"), (1.4, "140 %"), (0.004, "< 1 %"), (0.0, "0 %"), (None, "–")]
)
def test_a_share_is_a_whole_percentage(value: float | None, text: str) -> None:
    assert numbers.share(value) == text


def test_terminal_table_is_aligned_and_fits(case: Case) -> None:
    text = (case.folder / "summary/results.txt").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 121  # λ̂ is two code points in one column
    assert "9.93 ± 0.11" in text
    assert "n = 1000, d = 20, β = 0.1448, γ = 1" in text
    assert "7 runs: 2 reliable, 1 uncertain, 1 invalid, 2 failed, 1 missing" in text


def test_combined_pictures_one_for_each_target_and_posterior(case: Case) -> None:
    assert (case.folder / "summary/llc_convergence_combined.png").stat().st_size > 10_000
    names = sorted(file.name for file in (case.folder / "summary/llc_convergence").iterdir())
    assert names == [f"{row.folder}-beta-auto-gamma-1.0.png" for row in (case.quadratic, case.mlp, case.unbuilt)]


def test_the_trained_target_has_its_curve(case: Case) -> None:
    (curve,) = (case.folder / "summary/training").iterdir()
    assert curve.name == f"{case.mlp.folder}.png"
    page = (case.folder / "summary/report.html").read_text(encoding="utf-8")
    assert base64.b64encode(curve.read_bytes()).decode("ascii") in page


def test_nothing_but_the_plan_still_makes_a_report(tmp_path: Path) -> None:
    case = Case(tmp_path)
    for name in ("analyses", "targets", "failures"):
        (tmp_path / name).rmdir()
    done = case.report(MPLBACKEND="TkAgg")
    assert (done.returncode, done.stderr) == (0, "")
    counts = json.loads((tmp_path / "summary/counts.json").read_text())
    assert counts == {"planned": 7, "completed": 0, "failed": 0, "missing": 7}
    text = (tmp_path / "summary/report.html").read_text(encoding="utf-8")
    assert "no result of building the target" in text
    assert "Asked and used" not in text
    assert not (tmp_path / "summary/requests.csv").exists()


def test_a_result_of_another_plan_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    case = Case(tmp_path)
    stranger = run_row(case.quadratic, "hmc", 99)
    write_analysis(tmp_path / "analyses/0", analysis_record(stranger, "quadratic", 10.0, "reliable", ()))
    done = case.report()
    assert done.returncode == 2
    assert f"its id {stranger.id} is not in the plan" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "summary").exists()


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (9.93123, 9.82, 10.05, "9.93 ± 0.12"),
        (0.00123, 0.00121, 0.00125, "0.001230 ± 0.000020"),
        (12345.6, 12000.0, 12700.0, "12350 ± 350"),
        (-0.04, -0.14, 0.06, "-0.04 ± 0.10"),
        (7.0, None, None, "7"),
        (None, None, None, "–"),
    ],
)
def test_estimates_are_written_to_the_digit_of_their_error(
    value: float | None, low: float | None, high: float | None, text: str
) -> None:
    assert numbers.estimate(value, low, high) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (43.5, "43.5"),
        (0.0, "0"),
        (123456.0, "123500"),
        (1e-7, "1.000e-07"),
        (0.14476482730108395, "0.1448"),
        (-2.0, "-2"),
    ],
)
def test_plain_numbers_keep_four_digits(value: float, text: str) -> None:
    assert numbers.significant(value) == text


def test_many_runs_link_their_pictures(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "EMBED_UP_TO_RUNS", 6)
    collection = collect(*(case.folder / name for name in ("plan", "analyses", "targets", "failures")))
    summary = case.folder / "summary"
    text = page.page(collection, sweeps_of(collection), (), summary)
    sources = re.findall(r'src="([^"]*)"', text)
    assert [source[:22] for source in sources].count("data:image/png;base64,") == 1
    assert f"../runs/{case.runs[0].folder}/rank_energy.png" in sources
    linked = [source for source in sources if source.startswith(("llc_convergence/", "training/"))]
    assert len(linked) == 3
    assert all((summary / source).is_file() for source in linked)


def test_a_wild_run_does_not_stretch_the_combined_picture() -> None:
    points = np.array([1e3, 1e4])

    def curve(label: str, llc: float, outcome: str) -> combined.Curve:
        values = np.array([llc, llc])
        return combined.Curve(label, label, outcome, points, values, values - 1, values + 1, (llc, llc - 1, llc + 1))

    curves = (curve("hmc", 10.0, "reliable"), curve("sgld", 1e6, "uncertain"))
    panel = combined.Panel("quadratic", "", curves, finite_t=9.9, finite_t_kind="exact", limit=10.0)
    axes = combined.new_figure(4, 3).subplots()
    combined._draw(axes, panel, ("hmc", "sgld"), legend_drop=0.2)
    assert axes.get_ylim()[1] < 20
    assert "sgld (uncertain): 1e+06, outside" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_guide_explains_every_column() -> None:
    explained = set(re.findall(r"`(\w+)`", (ROOT / "docs/results.md").read_text(encoding="utf-8")))
    assert set(ResultRow.model_fields) <= explained


def test_several_temperatures_are_read_together(tmp_path: Path) -> None:
    """λ̂(t) of the quadratic at its exact values: a line of slope 10, multiplicity 1 among those that fit."""
    target = target_row("quadratic", "quadratic")
    target_folder = PlannedTarget(target, target_record(target, "quadratic"), None)
    runs = []
    for number, beta in enumerate((0.1, 0.5, 2.0, 10.0)):
        row = run_row(target, "hmc", number, posterior=PosteriorSettings(inverse_temperature=beta))
        llc = 10 * 1000 * beta / (1000 * beta + 1)
        record = analysis_record(row, "quadratic", llc, "reliable", ()).model_copy(
            update={"beta": beta, "nbeta": 1000 * beta, "llc_low": llc - 0.21, "llc_high": llc + 0.21, "llc_se": 0.1}
        )
        write_analysis(tmp_path / f"{number}", record)
        runs.append(PlannedRun(row, target_folder, AnalysisFolder(tmp_path / f"{number}"), None))
    experiment = Experiment(
        name="t", targets=(TargetEntry(name="quadratic", spec=TargetSection.model_validate(SPECS["quadratic"])),)
    )
    collection = Collection(
        PlanRecord(source="t.yml", set="", experiment=experiment), (target_folder,), tuple(runs), ()
    )
    (tmp_path / "summary").mkdir()
    write_summary(tmp_path / "summary", collection, ())
    (line,) = csv.DictReader((tmp_path / "summary/temperatures.csv").read_text().splitlines())
    assert (line["runs"], line["temperatures"], line["multiplicity_low"]) == ("4", "4", "1")
    assert float(line["llc_regression_low"]) < 10 < float(line["llc_regression_high"])
    assert 40 < float(line["free_energy"]) < 46
    assert float(line["free_energy_low"]) < 10 * math.log(10001 / 101) < float(line["free_energy_high"])
    assert "Over inverse temperatures" in (tmp_path / "summary/report.html").read_text()
    verdict = analysis_record(runs[1].row, "quadratic", 9.0, "uncertain", ("too short",)).model_copy(
        update={"nbeta": 500.0, "inverse_temperature": 0.5, "minimum": None}
    )
    write_analysis(tmp_path / "uncertain", verdict)
    lost = replace(
        collection,
        runs=(
            replace(runs[0], analysis=None),
            replace(runs[1], analysis=AnalysisFolder(tmp_path / "uncertain")),
            *runs[2:],
        ),
    )
    (group,) = sweeps_of(lost).temperatures
    (series,) = temperature_panel("t", group).series
    assert [(point.mark.estimate is None, point.mark.reliable, point.mark.minimum) for point in series.points] == [
        (True, False, None), (False, False, None), (False, True, "at_minimum"), (False, True, "at_minimum"),
    ]  # fmt: skip
    assert "quadratic at β = 0.1, γ = 1 / hmc: missing" in console.table(lost)
    (picture,) = (tmp_path / "summary/temperatures").glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_several_localizations_have_a_picture_with_a_map(tmp_path: Path) -> None:
    target = target_row("quadratic", "quadratic")
    planned = PlannedTarget(target, target_record(target, "quadratic"), None)
    runs = []
    for number, (beta, gamma) in enumerate(itertools.product((0.1, 1.0), (1.0, 10.0, 100.0))):
        posterior = PosteriorSettings(inverse_temperature=beta, localization=gamma)
        row = run_row(target, "hmc", number, posterior=posterior)
        llc = quadratic_mean(target.spec.model.curvatures, 1000 * beta, gamma)
        record = analysis_record(row, "quadratic", llc, "reliable", ()).model_copy(
            update={"beta": beta, "nbeta": 1000 * beta, "gamma": gamma, "llc_low": llc - 0.2, "llc_high": llc + 0.2}
        )
        write_analysis(tmp_path / f"{number}", record)
        runs.append(PlannedRun(row, planned, AnalysisFolder(tmp_path / f"{number}"), None))
    experiment = Experiment(
        name="t", targets=(TargetEntry(name="quadratic", spec=TargetSection.model_validate(SPECS["quadratic"])),)
    )
    plan = PlanRecord(source="t.yml", set="", experiment=experiment)
    (tmp_path / "summary").mkdir()
    write_summary(tmp_path / "summary", Collection(plan, (planned,), tuple(runs), ()), ())
    (picture,) = (tmp_path / "summary/localizations").glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "Over localizations" in (tmp_path / "summary/report.html").read_text()


def test_a_grid_has_a_table_and_a_picture(tmp_path: Path) -> None:
    """λ̂ of a quadratic over n and the file's seed: a column for each key, and the numbers of each run."""
    planned, runs = [], []
    for number, (n, seed) in enumerate(itertools.product((100, 1000, 10_000), (0, 1))):
        varied = {"data.n": n, "seed": seed}
        target = target_row("quadratic", "quadratic").model_copy(
            update={"id": f"{number:016d}", "name": f"quadratic-n-{n}-seed-{seed}", "varied": varied}
        )
        planned.append(PlannedTarget(target, target_record(target, "quadratic"), None))
        row = run_row(target, "hmc", number)
        llc = quadratic_mean(target.spec.model.curvatures, n / math.log(n), 1.0)
        record = analysis_record(row, "quadratic", llc, "reliable", ()).model_copy(
            update={"n": n, "llc_low": llc - 0.2, "llc_high": llc + 0.2}
        )
        write_analysis(tmp_path / f"{number}", record)
        runs.append(PlannedRun(row, planned[-1], AnalysisFolder(tmp_path / f"{number}") if number else None, None))
    experiment = Experiment(
        name="t", targets=(TargetEntry(name="quadratic", spec=TargetSection.model_validate(SPECS["quadratic"])),)
    )
    plan = PlanRecord(source="t.yml", set="", experiment=experiment)
    (tmp_path / "summary").mkdir()
    write_summary(tmp_path / "summary", Collection(plan, tuple(planned), tuple(runs), ()), ())
    with (tmp_path / "summary/grids.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["data.n"], line["seed"]) for line in lines] == [
        (str(n), str(seed)) for n in (100, 1000, 10_000) for seed in (0, 1)
    ]
    assert (lines[0]["llc"], lines[0]["truth"]) == ("", "10.0")
    for line, run in zip(lines[1:], runs[1:], strict=True):
        n = int(line["data.n"])
        assert float(line["llc"]) == quadratic_mean(run.target.row.spec.model.curvatures, n / math.log(n), 1.0)
    (group,) = sweeps_of(Collection(plan, tuple(planned), tuple(runs), ())).grids
    panel = grid_panel("t", group)
    assert (panel.key, panel.values, panel.joined, panel.undrawn) == ("data.n", (100.0, 1000.0, 1e4), True, 0)
    (series,) = panel.series
    assert (series.sampler, series.others, [point.place for point in series.points]) == ("hmc", "", [0, 0, 1, 1, 2, 2])
    for point, line in zip(series.points[1:], lines[1:], strict=True):
        llc, exact = float(line["llc"]), float(line["finite_t_value"])
        assert point.mark == Mark((llc, llc - 0.2, llc + 0.2), True, "at_minimum")
        assert (point.exact, point.limit) == (exact, 10.0)
    assert series.points[0] == GridPoint(0, Mark(None, False, None), None, 10.0)
    (picture,) = (tmp_path / "summary/grids").glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "quadratic over data.n, seed, β = 1/log n, γ = 1" in (tmp_path / "summary/report.html").read_text()


def planned_grid(varied: list[dict[str, object]], samplers: tuple[str, ...]) -> GridGroup:
    runs = []
    for number, values in enumerate(varied):
        row = target_row("quadratic", "quadratic").model_copy(update={"id": f"{number:016d}", "varied": values})
        runs += [PlannedRun(run_row(row, sampler, number), PlannedTarget(row, None, None), None, None)
                 for sampler in samplers]  # fmt: skip
    return GridGroup("quadratic", "quadratic.png", tuple(varied[0]), tuple(runs))


def test_of_many_lines_a_grid_draws_a_few_for_every_sampler() -> None:
    varied = [{"data.n": n, "data.noise": noise} for n in (100, 1000) for noise in range(30)]
    panel = grid_panel("t", planned_grid(varied, ("hmc", "sgld")))
    kept = ["data.noise = 0", "data.noise = 6", "data.noise = 12", "data.noise = 17", "data.noise = 23"]
    for sampler in ("hmc", "sgld"):
        assert [each.others for each in panel.series if each.sampler == sampler] == [*kept, "data.noise = 29"]
    assert panel.undrawn == 48
    assert all([point.place for point in each.points] == [0, 1] for each in panel.series)


def test_a_grid_over_seeds_or_names_alone_has_no_line() -> None:
    seeds = grid_panel("t", planned_grid([{"seed": 3}, {"seed": 1}], ("hmc",)))
    assert (seeds.values, seeds.joined) == (("3", "1"), False)
    names = grid_panel("t", planned_grid([{"data.path": "a$"}, {"data.path": "b"}], ("hmc",)))
    assert (names.values, names.joined) == (("a$", "b"), False)


def test_parts_of_a_target_are_marked(case: Case, tmp_path: Path) -> None:
    """λ̂ of some parameters, or over some rows, must not be read as one of the whole target."""
    collection = collect(*(case.folder / name for name in ("plan", "analyses", "targets", "failures")))
    spec = collection.targets[1].row.spec.model_copy(update={"restrict": ("layers/0/*", "<w>"), "rows": (0, 500)})
    parts = "[restricted coefficient (rLLC), only layers/0/*, <w> sampled; of the data only rows 0 to 499]"

    def part(target: PlannedTarget) -> PlannedTarget:
        return replace(target, row=target.row.model_copy(update={"spec": spec}))

    whole, other = collection.targets[0], part(collection.targets[1])
    runs = tuple(replace(run, target=other) if run.target.row.id == other.row.id else run for run in collection.runs)
    marked = replace(collection, targets=(whole, other, collection.targets[2]), runs=runs)
    text = page.page(marked, sweeps_of(marked), (), case.folder / "summary")
    # In the table of estimates, above the target and above its one setting.
    assert text.count(html.escape(parts)) == 3
    assert "rLLC), only" not in page.page(collection, sweeps_of(collection), (), case.folder / "summary")
    lines = console.table(marked).splitlines()
    (place,) = [index for index, line in enumerate(lines) if "[" in line]
    assert (lines[place], lines[place - 1].split(" (")[0]) == (f"  {parts}", NASTY)
    assert max(map(plain.columns_of, lines)) <= 120
