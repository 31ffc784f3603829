// The traces of a pack of runs become estimates with intervals, verdicts and figures.

process ANALYZE {
    tag { pack.label }
    label 'env_analyze'
    time { Resources.analysisTime(pack, task.attempt) }

    input:
    tuple val(id), val(pack), val(target_files), path(parts, stageAs: 'parts/?/*'), path(runs, stageAs: 'runs/*')
    val stages // the digests of the sources that this stage uses, as JSON
    val diagnostics // none, light or full
    val env_id

    output:
    tuple val(id), path('analyses'), emit: analyses, optional: true // holds a folder a run, named by its id
    path 'published/*/*', emit: files, optional: true // the same, file by file: they join the run's files in the results
    path 'failures/*', emit: failure, optional: true

    script:
    """
    unset "\${!JAX_@}" "\${!XLA_@}" "\${!MPL@}" "\${!MATPLOTLIB@}" "\${!PYTHON@}"
    export OMP_NUM_THREADS=${task.cpus} OPENBLAS_NUM_THREADS=${task.cpus} MKL_NUM_THREADS=${task.cpus}
    export MPLBACKEND=Agg MPLCONFIGDIR="\$PWD/.matplotlib"
    cat > rows.jsonl <<'JSON'
    ${pack.rows*.json.join('\n    ')}
    JSON
    cat > stages.json <<'JSON'
    ${stages}
    JSON
    ${Parts.together(target_files, 'target')}
    analyze --rows rows.jsonl --runs runs --target target --out analyses --stages stages.json \\
        --diagnostics ${diagnostics} --failures failures
    if [ -d analyses ]; then ln -s analyses published; fi
    """

    stub:
    """
    for run in ${pack.rows*.id.join(' ')}; do
        mkdir -p analyses/\$run
        echo '{"run_id": "'\$run'", "verdict": "reliable"}' > analyses/\$run/analysis.json
        touch analyses/\$run/convergence.csv analyses/\$run/trace.png analyses/\$run/rank_energy.png analyses/\$run/llc_convergence.png
    done
    ln -s analyses published
    """
}
