"""Which rows share a process: targets of one training, and runs, so that start-up and compilation are paid once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from lambda_hat_cli.experiment.identity import canonical_json, pack_id
from lambda_hat_cli.experiment.rows import RunRow, TargetRow


def training_passes(rows: Sequence[TargetRow]) -> tuple[tuple[TargetRow, ...], ...]:
    """The rows of one training together, by steps; each other row alone.

    A training is shared by targets that differ in its number of steps, or in the parameters and rows that are studied.
    """
    passes: dict[str, list[TargetRow]] = defaultdict(list)
    for row in rows:
        spec = row.spec.model_dump(mode="json", exclude={"train": {"steps"}, "restrict": True, "rows": True})
        shared = canonical_json([spec, row.seed, dict(row.files)])
        passes[row.id if row.spec.train is None else shared].append(row)
    return tuple(tuple(sorted(together, key=steps_of)) for together in passes.values())


def steps_of(row: TargetRow) -> int:
    """Steps of its training, 0 where w* is not trained."""
    return row.spec.train.steps if row.spec.train is not None else 0


def packed_targets(rows: Sequence[TargetRow]) -> tuple[TargetRow, ...]:
    """The same rows, each with the id of its pack."""
    pack_of = {row.id: pack_id(each.id for each in together) for together in training_passes(rows) for row in together}
    return tuple(row.model_copy(update={"pack": pack_of[row.id]}) for row in rows)


def packed_runs(rows: Sequence[RunRow], sizes: Sequence[int]) -> tuple[RunRow, ...]:
    """The same rows, each with the id of its pack.

    The runs of a pack have the target, the precision, the device, the number of chains and the size in common, so that
    none gets more CPUs than it would alone: how a sum is split over threads shows in its last digits. Full packs hold
    one sampler's runs, which compile the same functions; the runs that fill none are put together across samplers, in
    the order of the rows. Replicates come last within a sampler, so that more of them leave its full packs as they are.

    Args:
        rows: the planned runs. sizes: for each the number of runs that its pack may hold.
    """
    lanes: dict[tuple[str, str, str, int, int], list[RunRow]] = defaultdict(list)
    for row, size in zip(rows, sizes, strict=True):
        lanes[row.target_id, row.precision, row.device, row.runs.chains, size].append(row)
    pack_of: dict[str, str] = {}
    for (*_, size), members in lanes.items():
        for pack in _packs(members, size):
            identity = pack_id(row.id for row in pack)
            pack_of.update((row.id, identity) for row in pack)
    return tuple(row.model_copy(update={"pack": pack_of[row.id]}) for row in rows)


def _packs(rows: list[RunRow], size: int) -> Iterator[list[RunRow]]:
    by_sampler: dict[str, list[RunRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.replicate):
        by_sampler[row.sampler].append(row)
    left_over = []
    for name in dict.fromkeys(row.sampler for row in rows):
        runs = by_sampler[name]
        full = len(runs) - len(runs) % size
        yield from _chunks(runs[:full], size)
        left_over += runs[full:]
    yield from _chunks(left_over, size)


def _chunks(rows: list[RunRow], size: int) -> Iterator[list[RunRow]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
