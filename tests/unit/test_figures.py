"""What the pictures that compare runs hold, and that a person's text in any picture is drawn as it is written."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

import synthetic_runs as synthetic
from lambda_hat_cli.artifacts.target import TrainingRecord
from lambda_hat_cli.estimate.analysis import analyse
from lambda_hat_cli.estimate.convergence import convergence
from lambda_hat_cli.figures.checkpoints import CheckpointPanel, CheckpointPoint, CheckpointSeries, draw_checkpoints
from lambda_hat_cli.figures.combined import Curve, Panel, draw_overview
from lambda_hat_cli.figures.grids import GridPanel, GridPoint, GridSeries, draw_grid
from lambda_hat_cli.figures.localizations import LocalizationPanel, Place, draw_localizations
from lambda_hat_cli.figures.marks import Look, Mark, draw_mark, looks_of
from lambda_hat_cli.figures.run import draw_figures
from lambda_hat_cli.figures.scales import places_of, view_of, with_room
from lambda_hat_cli.figures.style import FAINT, new_figure, style
from lambda_hat_cli.figures.temperatures import Series, TemperaturePanel, TemperaturePoint, draw_temperatures
from lambda_hat_cli.figures.training import draw_training

DOLLARS = "$x^2 of $HOME_{y"
NO_NUMBER = Mark(None, False, None)


def mark(llc: float, reliable: bool = True) -> Mark:
    return Mark((llc, llc - 0.2, llc + 0.2), reliable, "at_minimum")


def grid(values: tuple[float, ...] | tuple[str, ...], joined: bool, *series: GridSeries) -> GridPanel:
    return GridPanel(DOLLARS, "", DOLLARS, values, joined, series, undrawn=3)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure as it was when its picture was written."""
    figures: list[Figure] = []
    draw = FigureCanvasAgg.draw

    def keep(canvas: FigureCanvasAgg) -> None:
        draw(canvas)
        figures.append(canvas.figure)

    monkeypatch.setattr(FigureCanvasAgg, "draw", keep)
    return figures


def lines_of(figure: Figure) -> Iterator[np.ndarray]:
    """λ̂ along each line that joins runs."""
    for line in figure.axes[0].lines:
        if len(line.get_xdata()) > 2:
            yield np.asarray(line.get_ydata(), float)


def run_pictures(folder: Path, sampler: str, trace: synthetic.Trace) -> None:
    case = synthetic.Case(sampler=sampler, trace=trace, row={"target": DOLLARS})
    run = synthetic.run_record(case)
    record = analyse(synthetic.run_row(case), run, synthetic.target_record(case), trace)
    draw_figures(trace, record, convergence(trace, run), folder, full=True)


def test_no_picture_reads_or_writes_mathtext(tmp_path: Path, drawn: list[Figure]) -> None:
    """Matplotlib's own labels of logarithmic axes are mathtext, and so is what stands between two $."""
    run_pictures(tmp_path, "hmc", synthetic.markov_trace(synthetic.autoregressive(4, 400, 0.5, 9.9, 3.0, 1)))
    run_pictures(tmp_path, "vi", synthetic.weighted_trace(1.0))
    picture = tmp_path / "picture.png"
    series = GridSeries("hmc", DOLLARS, tuple(GridPoint(place, mark(10.0**place), 5.0, 6.0) for place in range(3)))
    draw_grid(grid(("$a$", "$b", "c$"), False, series), ("hmc",), picture)
    draw_grid(grid((0.0, 0.01, 1.0), True, series), ("hmc",), picture)
    checkpoints = tuple(CheckpointPoint(steps, mark(llc)) for steps, llc in ((0, -1000.0), (10, 2.0), (100, 3.0)))
    losses = ((0, 100.0), (10, 1.0), (100, 0.1))
    panel = CheckpointPanel(DOLLARS, "", (CheckpointSeries("hmc", "hmc", checkpoints),), losses, losses)
    draw_checkpoints(panel, ("hmc",), picture)
    points = tuple(TemperaturePoint(t, mark(5.0), 5.0) for t in (10.0, 100.0))
    draw_temperatures(TemperaturePanel(DOLLARS, "", (Series("hmc", points),), (), None), ("hmc",), picture)
    places = tuple(
        Place("hmc", beta, gamma, 5.0, 4.0, 6.0, True, "at_minimum") for beta in (0.1, 1.0) for gamma in (1.0, 100.0)
    )
    draw_localizations(LocalizationPanel(DOLLARS, places, 5.0), ("hmc",), picture)
    values = np.array([5.0, 5.0])
    curve = Curve("hmc", DOLLARS, "reliable", np.array([1e3, 1e4]), values, values - 1, values + 1, (5.0, 4.0, 6.0))
    draw_overview([Panel(DOLLARS, "", (curve,), 5.0, "exact", 5.0)], ("hmc",), picture)
    draw_training(TrainingRecord(steps=9, recorded_steps=(0, 9), losses=(9.0, 0.1), held_out_losses=None), picture)
    texts = [text for figure in drawn for text in figure.findobj(Text) if text.get_text()]
    assert len(drawn) == 2 * 5 + 7
    assert not [text.get_text() for text in texts if text.get_parse_math() or "math" in text.get_text()]
    assert sum(DOLLARS in text.get_text() for text in texts) >= 2 * 5 + 6


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ((100.0, 1000.0, 1e4), (1.0, 2.0, 3.0)),
        ((0.1, 0.0, 0.001, 0.01), (3.0, 0.0, 1.0, 2.0)),
        ((-10.0, 0.0, 1.0, 10.0), (-2.0, 0.0, 1.0, 2.0)),
        ((10.0, 20.0, 30.0, 110.0), (1.0, 1 + math.log10(2), 1 + math.log10(3), 1 + math.log10(11))),
        ((1.0, 3.0, 5.0, 7.0, 9.0, 11.0), (1.0, 3.0, 5.0, 7.0, 9.0, 11.0)),
        ((0.0, 5.0), (0.0, 5.0)),
    ],
)
def test_values_stand_where_they_are_told_apart(values: tuple[float, ...], where: tuple[float, ...]) -> None:
    assert places_of(values).where == pytest.approx(where)


def test_labels_that_would_touch_are_left_out() -> None:
    assert with_room([0.0, 1.0, 2.0], [10, 10, 10]) == [0, 1, 2]
    kept = with_room(list(range(200)), [4] * 200)
    assert 10 <= len(kept) <= 80 / 4
    assert min(np.diff(kept)) >= 4 / 80 * 200
    assert with_room([0.0, 0.0, 1.0], [1, 1, 1]) == [0, 2]


@pytest.mark.parametrize(
    ("llcs", "known", "outside", "decades"),
    [
        ((5.0, 5.2, -12.0, 5.3, 5.1, 5.4, 5.2), (), {-12.0}, False),
        ((5.0, 5.2, 1e6, 5.3, 5.1, 5.4, 5.2), (5.0,), {1e6}, False),
        ((0.5, 3.0, 6.0, 8.0, 9.0, 9.5, 9.8, 9.9), (), set(), False),
        ((-5000.0, -900.0, -200.0, -20.0, 1.0, 3.0, 4.0, 4.0), (), set(), True),
        ((1.0, 10.0, 100.0), (), set(), True),
        ((5.0, 5.1, -12.0), (), set(), False),
        ((5.0, 5.1, 5.2, 5.1), (40.0,), set(), False),
        # Within its error of zero: no reason for decades.
        ((1e-7, 1.0, 1.5, 2.0), (), set(), False),
    ],
)
def test_one_far_run_does_not_flatten_the_others(
    llcs: tuple[float, ...], known: tuple[float, ...], outside: set[float], decades: bool
) -> None:
    view = view_of([(llc, llc - 0.2, llc + 0.2) for llc in llcs], known)
    assert view is not None
    assert {llc for llc in (*llcs, *known) if not view.low <= llc <= view.high} == outside
    assert (view.unit is not None) == decades


def marked(each: Mark) -> Axes:
    axes = new_figure(3, 3).subplots()
    axes.set_ylim(0, 10)
    draw_mark(axes, 1.0, each, Look("#0072B2", "-", "o"))
    return axes


def test_marks_tell_trust_and_minimum() -> None:
    with style():
        faces = []
        for minimum in ("at_minimum", "above_minimum", None):
            point = marked(Mark((5.0, 4.0, 6.0), True, minimum)).lines[-1]
            faces.append((to_hex(point.get_markerfacecolor()), point.get_fillstyle()))
        strengths = [marked(mark(5.0, reliable)).lines[-1].get_alpha() for reliable in (True, False)]
        beyond = marked(mark(-12.0))
    assert faces == [("#0072b2", "full"), ("#ffffff", "full"), ("#0072b2", "left")]
    assert strengths == [1.0, 0.4]
    assert (beyond.lines[-1].get_marker(), [text.get_text() for text in beyond.texts]) == ("v", ["-12"])
    assert marked(NO_NUMBER).lines[-1].get_marker() == "x"


def test_lines_break_where_there_is_no_number(tmp_path: Path, drawn: list[Figure]) -> None:
    marks = [mark(1.0), NO_NUMBER, mark(3.0)]
    gap = [1.0, math.nan, 3.0]
    checkpoints = tuple(CheckpointPoint(10**place, each) for place, each in enumerate(marks))
    panel = CheckpointPanel("net", "", (CheckpointSeries("hmc", "hmc", checkpoints),), ((1, 1.0),), ())
    draw_checkpoints(panel, ("hmc",), tmp_path / "a.png")
    points = tuple(GridPoint(place, each, None, None) for place, each in enumerate(marks))
    draw_grid(grid((1.0, 2.0, 3.0), True, GridSeries("hmc", "", points)), ("hmc",), tmp_path / "b.png")
    temperatures = tuple(TemperaturePoint(10.0**place, each, None) for place, each in enumerate(marks))
    draw_temperatures(TemperaturePanel("net", "", (Series("hmc", temperatures),), (), None), ("hmc",), tmp_path / "c")
    for figure in drawn:
        (line,) = lines_of(figure)
        np.testing.assert_array_equal(line, gap)


def test_one_far_place_does_not_make_the_others_of_a_map_alike(tmp_path: Path, drawn: list[Figure]) -> None:
    llcs = {(beta, gamma): 3 + 2 * beta for beta in (0.0, 0.5, 1.0) for gamma in (1.0, 10.0, 100.0)}
    llcs[0.0, 1.0] = -4000.0
    places = tuple(
        Place("hmc", beta, gamma, llc, llc - 0.1, llc + 0.1, True, "at_minimum") for (beta, gamma), llc in llcs.items()
    )
    draw_localizations(LocalizationPanel("net", places, None), ("hmc",), tmp_path / "map.png")
    (image,) = drawn[0].axes[1].images
    assert image.get_clim() == (3.0, 5.0)
    assert "-4000\n± 0.1" in [text.get_text() for text in drawn[0].axes[1].texts]


def test_seeds_and_names_are_not_joined(tmp_path: Path, drawn: list[Figure]) -> None:
    points = tuple(GridPoint(place, mark(5.0), None, None) for place in range(3))
    draw_grid(grid(("0", "1", "2"), False, GridSeries("hmc", "", points)), ("hmc",), tmp_path / "a.png")
    assert list(lines_of(drawn[0])) == []


@pytest.mark.parametrize(("limits", "places"), [((6.0, 6.0), [[0, 1]]), ((6.0, 7.0), [[0.0], [1.0]])])
def test_a_grid_shows_the_limit(
    tmp_path: Path, drawn: list[Figure], limits: tuple[float, float], places: list[list[float]]
) -> None:
    """One line where it is the same for all, else a bar at each run."""
    points = tuple(GridPoint(place, mark(5.0), None, limit) for place, limit in enumerate(limits))
    draw_grid(grid((0.0, 1.0), True, GridSeries("hmc", "", points)), ("hmc",), tmp_path / "a.png")
    shown = [line for line in drawn[0].axes[0].lines if line.get_color() == FAINT]
    assert [list(line.get_xdata()) for line in shown] == places
    assert [line.get_ydata()[0] for line in shown] == sorted(set(limits))


def test_every_line_has_its_own_look() -> None:
    betas = [f"β = {beta}" for beta in (0.1, 0.2, 0.5, 1, 2, 5)]
    one = looks_of([("hmc", beta) for beta in betas], ("hmc", "sgld"))
    assert len({look.color for look in one}) == 6
    two = looks_of(list(itertools.product(("sgld", "hmc"), betas)), ("hmc", "sgld"))
    assert len({look[::2] for look in two}) == 12
    alone = looks_of([("sgld", "")], ("hmc", "sgld"))
    assert alone[0].color == two[0].color, "a sampler's colour is that of every picture"
