// One run's trace becomes an estimate with an interval, a verdict and figures.

process ANALYZE {
    tag { row.folder }
    label 'env_analyze'

    input:
    tuple val(id), val(row), path(target, stageAs: 'target'), path(run, stageAs: 'run/*')
    val stages // the digests of the sources that this stage uses, as JSON
    val diagnostics // light or full
    val env_id

    output:
    tuple val(id), path('analysis'), emit: analysis, optional: true
    path 'published/*', emit: files, optional: true // the analysis, file by file: they join the run's files in the results
    path 'failure-*.json', emit: failure, optional: true

    script:
    """
    unset "\${!JAX_@}" "\${!XLA_@}" "\${!MPL@}" "\${!MATPLOTLIB@}" "\${!PYTHON@}"
    export OMP_NUM_THREADS=${task.cpus} OPENBLAS_NUM_THREADS=${task.cpus} MKL_NUM_THREADS=${task.cpus}
    export MPLBACKEND=Agg MPLCONFIGDIR="\$PWD/.matplotlib"
    cat > row.json <<'JSON'
    ${row.json}
    JSON
    cat > stages.json <<'JSON'
    ${stages}
    JSON
    analyze --row row.json --run run --target target --out analysis --stages stages.json \\
        --diagnostics ${diagnostics} --failure failure-${id}.json
    if [ -d analysis ]; then ln -s analysis published; fi
    """

    stub:
    """
    mkdir analysis
    echo '{"run_id": "${id}", "verdict": "reliable"}' > analysis/analysis.json
    touch analysis/convergence.csv analysis/trace.png analysis/rank_energy.png analysis/llc_convergence.png
    ln -s analysis published
    """
}
