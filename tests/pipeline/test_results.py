"""One experiment from file to report, then again with -resume after each kind of change."""

import itertools
from pathlib import Path

import pytest
from project_copy import copy_of_the_project

from pipeline.nextflow_run import EXPERIMENTS, Run, run_pipeline

pytestmark = pytest.mark.nextflow

CONTRACT = (
    "experiment target target_id sampler run_id replicate precision status verdict llc llc_se llc_low llc_high truth "
    "truth_kind finite_t_value finite_t_se finite_t_kind relative_error relative_error_limit minimum delta rhat ess "
    "gradients seconds_sampling seconds_total n d beta gamma"
)
ALL = ["ANALYZE", "ANALYZE", "BUILD_TARGET", "PLAN", "REPORT", "SAMPLE_FLOAT32", "SAMPLE_FLOAT64"]
CHANGE = "runs.chains=6; posterior.localization=2"


class Pipeline:
    """A copy of the project, an experiment and a launch folder, all under paths with a space."""

    def __init__(self, folder: Path):
        self.project = copy_of_the_project(folder / "the project")
        self.experiment = folder / "my experiments" / "tiny one.yml"
        self.experiment.parent.mkdir()
        self.experiment.write_text((EXPERIMENTS / "tiny.yml").read_text(encoding="utf-8"), encoding="utf-8")
        self.launch = folder / "some where"

    def run(self, *arguments: str, **options: str) -> Run:
        arguments = ("--experiment", "../my experiments/tiny one.yml", "--set", CHANGE, *arguments)
        return run_pipeline(self.launch, *arguments, project=self.project, outdir="the results")

    def edit(self, old: str, new: str) -> None:
        text = self.experiment.read_text(encoding="utf-8")
        assert old in text
        self.experiment.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def first(pipeline: Pipeline) -> Run:
    run = pipeline.run()
    assert run.status == 0, run.output
    return run


@pytest.fixture(scope="module")
def first_rows(first: Run) -> list[dict[str, str]]:
    """The first run's results.csv, read before a later run overwrites it."""
    return first.results()


def test_tasks_share_compiled_programs_in_the_work_folder(first: Run, pipeline: Pipeline) -> None:
    lanes = list((pipeline.launch / "work" / "compiled").iterdir())
    assert lanes
    assert all(any(lane.iterdir()) for lane in lanes)


def test_every_stage_ran_once_a_row(first: Run) -> None:
    assert first.tasks("Submitted") == ALL


def test_results_have_the_contract_columns_and_numbers(first_rows: list[dict[str, str]]) -> None:
    assert {row["sampler"] for row in first_rows} == {"hmc", "sgld"}
    for row in first_rows:
        assert set(CONTRACT.split()) <= set(row)
        assert row["status"] in ("completed", "budget_exhausted")
        assert float(row["llc"]) > 0
        assert (row["d"], row["finite_t_kind"], float(row["gamma"])) == ("2", "exact", 2.0)


def test_each_run_has_its_folder(first: Run) -> None:
    for row in first.results():
        folder = first.outdir / "runs" / f"bowl-{row['sampler']}-{row['run_id'][:8]}"
        names = {path.name for path in folder.iterdir()}
        assert {"run.json", "trace.nc", "analysis.json", "trace.png", "rank_energy.png", "llc_convergence.png"} <= names
    (target,) = (first.outdir / "targets").iterdir()
    assert {"target.json", "data.npz", "params.eqx", "static.eqx"} <= {path.name for path in target.iterdir()}


def test_the_summary_and_the_records_are_there(first: Run) -> None:
    summary = {path.name for path in (first.outdir / "summary").iterdir()}
    assert {"results.csv", "results.parquet", "requests.csv", "report.html", "llc_convergence_combined.png"} <= summary
    records = {path.name for path in (first.outdir / "pipeline_info").iterdir()}
    assert {"report.html", "timeline.html", "trace.txt", "dag.html", "versions.json", "params.json", "plan"} <= records
    assert CHANGE in (first.outdir / "pipeline_info" / "plan" / "experiment.json").read_text(encoding="utf-8")


def test_jax_saw_each_lanes_precision(first: Run) -> None:
    seen = {record["sampler"]: record["environment"]["precision"] for record in first.records("runs/*/run.json")}
    assert seen == {"hmc": "float64", "sgld": "float32"}


def test_the_table_and_the_reports_path_end_the_run(first: Run) -> None:
    table = (first.outdir / "summary" / "results.txt").read_text(encoding="utf-8")
    assert table in first.output
    assert first.output.rstrip().endswith("the results/summary/report.html")


def test_resume_computes_what_a_change_touches(pipeline: Pipeline, first: Run) -> None:
    """In one test because each step starts where the last one ended."""
    requests = first.requests()
    again = pipeline.run("-resume", "--max_memory", "1600.MB")  # what tasks are given enters no cache entry
    assert again.status == 0, again.output
    assert again.tasks("Submitted") == ["PLAN"]
    assert again.requests() == requests  # what they were given when they ran
    assert "Cached process" in again.output
    assert (again.outdir / "summary" / "results.txt").read_text(encoding="utf-8") in again.output

    pipeline.edit("kind: sgld, warmup: 50", "kind: sgld, warmup: 60")
    setting = pipeline.run("-resume")
    assert setting.tasks("Submitted") == ["ANALYZE", "PLAN", "REPORT", "SAMPLE_FLOAT32"], setting.output

    before = setting.results()
    pipeline.edit("name: bowl", "name: basin")
    renamed = pipeline.run("-resume")
    assert renamed.tasks("Submitted") == ["ANALYZE", "ANALYZE", "PLAN", "REPORT"], renamed.output
    assert [row["llc"] for row in renamed.results()] == [row["llc"] for row in before]
    for row in renamed.results():
        folder = renamed.outdir / "runs" / f"basin-{row['sampler']}-{row['run_id'][:8]}"
        assert (folder / "run.json").is_file()
        assert (folder / "analysis.json").is_file()

    source = pipeline.project / "python" / "lambda_hat_cli" / "samplers" / "hmc.py"
    source.write_text(source.read_text(encoding="utf-8") + "\n# another digest\n", encoding="utf-8")
    edited = pipeline.run("-resume")
    assert edited.tasks("Cached") == ["BUILD_TARGET"], edited.output
    assert [row["llc"] for row in edited.results()] == [row["llc"] for row in renamed.results()]


def test_nothing_of_the_callers_environment_leaks_in(first_rows: list[dict[str, str]], tmp_path: Path) -> None:
    """Ambient JAX, matplotlib and Python settings change no number and no figure; one CPU means one task at a time."""
    (tmp_path / "poison" / "lambda_hat_cli").mkdir(parents=True)
    (tmp_path / "poison" / "lambda_hat_cli" / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\naxes.formatter.use_mathtext: True\n")
    run = run_pipeline(
        tmp_path / "launch",
        *("--experiment", str(EXPERIMENTS / "tiny.yml"), "--set", CHANGE),
        *("--max_cpus", "1", "--max_memory", "1500.MB", "--max_time", "15m", "--queue_size", "1"),
        environment={
            "JAX_ENABLE_X64": "1",
            "JAX_DEFAULT_PRNG_IMPL": "rbg",
            "MPLBACKEND": "TkAgg",
            "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
            "PYTHONPATH": str(tmp_path / "poison"),
            "PYTHONSTARTUP": "/nowhere",
        },
    )
    assert run.status == 0, run.output
    columns = ("run_id", "precision", "status", "verdict", "llc", "llc_se", "llc_low", "llc_high", "gradients")
    measured = [{name: row[name] for name in columns} for row in run.results()]
    assert measured == [{name: row[name] for name in columns} for row in first_rows]
    spans = sorted((task["start"], task["complete"]) for task in run.trace())
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans)), spans
    assert {(task["cpus"], task["memory"], task["time"]) for task in run.trace()} == {("1", "1.5 GB", "15m")}
    page = (run.outdir / "summary" / "report.html").read_text(encoding="utf-8")
    assert page.count('data-label="memory asked">1\u202f500 MiB<') == 2
    assert page.count('data-label="time asked, s">900<') == 2
    assert {(task["cpus"], task["memory_asked"], task["seconds_asked"]) for task in run.requests()} == {
        ("1", str(1500 * 2**20), "900")
    }
