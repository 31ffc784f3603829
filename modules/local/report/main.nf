// Everything planned, built, run and lost becomes tables, combined figures and one page.

process REPORT {
    label 'env_analyze'

    input:
    path plan, stageAs: 'plan/*' // files: a folder would enter the cache entry by its time, not by what it says
    path targets, stageAs: 'targets/?' // sorted, so that the cache entry does not depend on who came first
    path packs, stageAs: 'packs/?'
    path failures, stageAs: 'failures/*'
    path requests, stageAs: 'requests/?' // of the sampling tasks, sorted too
    val stages
    val env_id

    output:
    path 'summary', emit: summary

    script:
    """
    unset "\${!JAX_@}" "\${!XLA_@}" "\${!MPL@}" "\${!MATPLOTLIB@}" "\${!PYTHON@}"
    export OMP_NUM_THREADS=${task.cpus} OPENBLAS_NUM_THREADS=${task.cpus} MKL_NUM_THREADS=${task.cpus}
    export MPLBACKEND=Agg MPLCONFIGDIR="\$PWD/.matplotlib"
    cat > stages.json <<'JSON'
    ${stages}
    JSON
    mkdir -p targets analyses failures requests
    if [ -d packs ]; then printf '%s\\0' "\$PWD"/packs/*/* | xargs -0 -n 500 sh -c 'ln -s "\$@" analyses/' ln; fi
    report --plan plan --targets targets --analyses analyses --failures failures --requests requests --stages stages.json --out summary
    """

    stub:
    """
    mkdir -p summary analyses
    if [ -d packs ]; then ln -s "\$PWD"/packs/*/* analyses/; fi
    planned=\$(wc -l < plan/runs.jsonl)
    completed=\$(ls analyses | wc -l)
    echo "{\\"planned\\": \$planned, \\"completed\\": \$completed, \\"failed\\": 0, \\"missing\\": \$((planned - completed))}" > summary/counts.json
    echo 'A stub run: nothing was estimated.' > summary/results.txt
    touch summary/results.csv summary/results.parquet summary/report.html summary/llc_convergence_combined.png
    """
}
