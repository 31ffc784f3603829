// One run in a process of its own. Included once for each precision; the lane is set before Python starts.

process SAMPLE {
    tag { row.folder }
    label 'env_sample'
    label 'accelerated'
    cpus { Resources.cpus(row) }
    memory { Resources.memory(row, task.attempt) }
    time { Resources.time(row, task.attempt) }

    input:
    tuple val(id), val(row), path(target, stageAs: 'target')
    val env_id

    output:
    tuple val(id), path('run/*'), emit: run, optional: true
    path 'failure-*.json', emit: failure, optional: true

    script:
    """
    unset "\${!JAX_@}" "\${!XLA_@}" "\${!PJRT_@}" "\${!MPL@}" "\${!MATPLOTLIB@}" "\${!PYTHON@}"
    export JAX_ENABLE_X64=${task.ext.precision == 'float64' ? 1 : 0} JAX_DEFAULT_PRNG_IMPL=threefry2x32 JAX_PLATFORMS=${task.ext.platform ?: 'cpu'}
    export NPROC=${task.cpus} OMP_NUM_THREADS=${task.cpus} OPENBLAS_NUM_THREADS=${task.cpus} MKL_NUM_THREADS=${task.cpus}
    cat > row.json <<'JSON'
    ${row.json}
    JSON
    sample --row row.json --target target --out run --failure failure-${id}.json
    """

    stub:
    """
    mkdir run
    echo '{"id": "${id}", "status": "completed", "precision": "${task.ext.precision}"}' > run/run.json
    touch run/trace.nc
    """
}
