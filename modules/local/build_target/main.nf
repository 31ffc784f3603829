// One target row becomes a target folder: data, w* and what is known about them.

process BUILD_TARGET {
    tag { row.fields.name }
    label 'env_build'
    cpus { Resources.cpus(row) }
    memory { Resources.memory(row, task.attempt) }
    time { Resources.time(row, task.attempt) }

    input:
    tuple val(id), val(row), path(code, stageAs: 'code-?/*') // code: a python target's own files
    val env_id

    output:
    tuple val(id), path('target'), emit: target, optional: true
    path 'failure-*.json', emit: failure, optional: true

    script:
    def quoted = { text -> "'" + text.replace("'", "'\\''") + "'" }
    // Staged one by one, so that what they say enters the cache entry, then put where they were.
    def placed = row.codeFiles.withIndex(1).collect { name, index ->
        def file = new File(name)
        "mkdir -p ${quoted("code/${file.parent ?: ''}".toString())} && cp ${quoted("code-${index}/${file.name}".toString())} ${quoted("code/${name}".toString())}"
    }
    """
    unset "\${!JAX_@}" "\${!XLA_@}" "\${!PJRT_@}" "\${!MPL@}" "\${!MATPLOTLIB@}" "\${!PYTHON@}"
    export JAX_ENABLE_X64=0 JAX_DEFAULT_PRNG_IMPL=threefry2x32 JAX_PLATFORMS=${task.ext.platform ?: 'cpu'}
    export NPROC=${task.cpus} OMP_NUM_THREADS=${task.cpus} OPENBLAS_NUM_THREADS=${task.cpus} MKL_NUM_THREADS=${task.cpus}
    export MPLBACKEND=Agg MPLCONFIGDIR="\$PWD/.matplotlib"
    cat > row.json <<'JSON'
    ${row.json}
    JSON
    ${placed.join('\n    ')}
    build-target --row row.json ${placed ? '--code code' : ''} --out target --failure failure-${id}.json
    """

    stub:
    """
    mkdir target
    echo '{"id": "${id}", "n": 100, "d": 2}' > target/target.json
    touch target/data.npz target/params.eqx target/static.eqx
    """
}
