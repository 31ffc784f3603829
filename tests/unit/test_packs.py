"""Which runs share a process, and that this changes nothing else of the plan."""

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from lambda_hat_cli.experiment.expand import expand
from lambda_hat_cli.experiment.load import load_experiment
from lambda_hat_cli.experiment.rows import RunRow

TWO_TARGETS = [
    {"name": name, "model": {"kind": "quadratic", "curvatures": curvatures}}
    for name, curvatures in (("bowl", [1, 2]), ("dish", [3, 4]))
]
SAMPLERS = [{"kind": "hmc"}, {"kind": "mclmc"}, {"kind": "sgld"}, {"kind": "hmc", "name": "short", "warmup": 30}]


def planned(folder: Path, runs: dict[str, Any], **more: Any) -> tuple[RunRow, ...]:
    file = folder / "x.yml"
    file.write_text(yaml.safe_dump({"name": "x", "targets": TWO_TARGETS, "samplers": SAMPLERS, "runs": runs} | more))
    return expand(load_experiment(file, ""), where="x.yml", files={}, build_code={}, sample_code={}).runs


def packs(rows: tuple[RunRow, ...]) -> dict[str, list[RunRow]]:
    members: dict[str, list[RunRow]] = defaultdict(list)
    for row in rows:
        members[row.pack].append(row)
    return members


def test_packing_changes_nothing_but_the_pack(tmp_path: Path) -> None:
    alone = planned(tmp_path, {"replicates": 5})
    together = planned(tmp_path, {"replicates": 5, "pack": 4})
    assert [row.model_copy(update={"pack": ""}) for row in together] == [
        row.model_copy(update={"pack": ""}) for row in alone
    ]
    assert len(packs(alone)) == len(alone)


def test_a_pack_has_one_target_and_lane_and_at_most_its_size(tmp_path: Path) -> None:
    members = packs(planned(tmp_path, {"replicates": 5, "pack": 4})).values()
    assert all(len({(row.target_id, row.precision) for row in pack}) == 1 for pack in members)
    # For each target 4 + 4 + 4 of the float64 samplers and their remaining 1 + 1 + 1, and sgld's 4 and 1.
    assert sorted(map(len, members)) == sorted([4, 4, 4, 3, 4, 1] * 2)
    assert all(len({row.sampler for row in pack}) == 1 for pack in members if len(pack) == 4)
    (mixed, _) = (pack for pack in members if len(pack) == 3)
    assert [row.sampler for row in mixed] == ["hmc", "mclmc", "short"]


def test_variants_without_replicates_share_a_process(tmp_path: Path) -> None:
    rows = planned(tmp_path, {"pack": 1000}, posterior={"localization": [1, 2, 3]})
    assert sorted(map(len, packs(rows).values())) == [3, 3, 9, 9]


def test_more_replicates_leave_full_packs_as_they_are(tmp_path: Path) -> None:
    several = {"localization": [1, 2]}
    few = packs(planned(tmp_path, {"replicates": 5, "pack": 4}, posterior=several))
    more = packs(planned(tmp_path, {"replicates": 6, "pack": 4}, posterior=several))
    full = {
        identity for identity, members in few.items() if len(members) == 4 and len({m.sampler for m in members}) == 1
    }
    assert len(full) == 16
    assert full <= more.keys()


def test_overrides_set_the_pack_of_some_runs(tmp_path: Path) -> None:
    overrides = [{"match": {"sampler": "mclmc"}, "set": {"runs.pack": 2}}]
    members = packs(planned(tmp_path, {"replicates": 4}, overrides=overrides)).values()
    assert {row.sampler for pack in members for row in pack if len(pack) == 2} == {"mclmc"}
    assert all(len(pack) == (2 if pack[0].sampler == "mclmc" else 1) for pack in members)


def test_a_packs_id_says_which_runs_it_holds(tmp_path: Path) -> None:
    first = planned(tmp_path, {"replicates": 4, "pack": 2})
    assert {row.id: row.pack for row in planned(tmp_path, {"replicates": 4, "pack": 2})} == {
        row.id: row.pack for row in first
    }
    other = planned(tmp_path, {"replicates": 4, "pack": 2, "tolerance": 0.1})
    assert not {row.pack for row in first} & {row.pack for row in other}
    assert all(len(identity) == 16 for identity in itertools.chain(packs(first), packs(other)))
