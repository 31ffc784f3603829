// The experiment file, validated as a whole, becomes a row for every target and for every run.

process PLAN {
    tag { experiment.tokenize('/').last() }
    label 'env_analyze'
    // Files of the user that lie beside the experiment file are no inputs that Nextflow could see.
    cache false

    input:
    val experiment // absolute path, as text
    val changes // key=value; key=value
    val env_id

    output:
    path 'plan', emit: plan

    script:
    def quoted = { text -> "'" + text.replace("'", "'\\''") + "'" }
    """
    unset "\${!JAX_@}" "\${!XLA_@}" "\${!MPL@}" "\${!MATPLOTLIB@}" "\${!PYTHON@}"
    plan ${quoted(experiment)} --out plan ${changes ? '--set ' + quoted(changes) : ''}
    """

    stub:
    """
    mkdir plan
    cat > plan/targets.jsonl <<'JSON'
    {"id": "00000000000000aa", "name": "stub", "entry": "stub", "folder": "stub-00000000", "spec": {"train": {"steps": 600000, "batch_size": "full"}}, "seed": 1, "files": {}, "d": 2, "n": 100, "code": {}, "pack": "44444444444444ff"}
    {"id": "00000000000000cc", "name": "own", "entry": "own", "folder": "own-00000000", "spec": {"model": {"kind": "python"}, "train": {"steps": 10000, "batch_size": 100}}, "seed": 1, "files": {}, "d": null, "n": null, "code": {}, "pack": "55555555555555ff"}
    JSON
    cat > plan/runs.jsonl <<'JSON'
    {"id": "00000000000000bb", "folder": "own-hmc-00000000", "target": "own", "target_id": "00000000000000cc", "sampler": "hmc", "settings": {}, "runs": {"chains": 2}, "precision": "float64", "d": null, "n": null, "code": {}, "pack": "22222222222222dd"}
    {"id": "11111111111111cc", "folder": "stub-vi-11111111", "target": "stub", "target_id": "00000000000000aa", "sampler": "vi", "settings": {"draws": 4000}, "runs": {"chains": 2}, "precision": "float32", "d": null, "n": null, "code": {}, "pack": "33333333333333ee"}
    JSON
    echo '{"name": "stub"}' > plan/experiment.json
    echo '{"analyze": {}, "report": {}}' > plan/stages.json
    """
}
