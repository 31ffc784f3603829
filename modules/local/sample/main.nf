// A pack of runs in one process, one after the other. Included once for each precision; the lane is set before Python starts.

process SAMPLE {
    tag { pack.label }
    label 'env_sample'
    label 'accelerated'
    cpus { Resources.cpus(pack, task.ext.precision) }
    memory { Resources.memory(pack, task.attempt, task.ext.precision) }
    time { Resources.time(pack, task.attempt, task.ext.precision) }
    containerOptions { CompiledPrograms.shownTo(workflow.containerEngine, workflow.workDir) }

    input:
    tuple val(id), val(pack), val(target_files), path(parts, stageAs: 'parts/?/*')
    val env_id

    output:
    tuple val(id), path('runs/*', arity: '0..*'), emit: runs // a folder for each run that did not fail, named by its id
    path 'published/*/*', emit: files, optional: true // the same, file by file
    path 'failures/*', emit: failure, optional: true
    tuple val(id), path('request.json'), emit: request // what this attempt was given

    script:
    """
    unset "\${!JAX_@}" "\${!XLA_@}" "\${!PJRT_@}" "\${!MPL@}" "\${!MATPLOTLIB@}" "\${!PYTHON@}"
    export JAX_ENABLE_X64=${task.ext.precision == 'float64' ? 1 : 0} JAX_DEFAULT_PRNG_IMPL=threefry2x32 JAX_PLATFORMS=${task.ext.platform ?: 'cpu'}
    export XLA_PYTHON_CLIENT_PREALLOCATE=false
    export JAX_NUM_CPU_DEVICES=${task.cpus} NPROC=${task.cpus}
    # JAX has the CPUs: a BLAS of so many threads, which wait busily after each vector of the descent, would take them away.
    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
    cat > rows.jsonl <<'JSON'
    ${pack.rows*.json.join('\n    ')}
    JSON
    ${Parts.together(target_files, 'target')}
    sample --rows rows.jsonl --target target --out runs --failures failures --progress progress.jsonl \\
        ${task.time ? "--time-limit ${task.time.toSeconds()}" : ''} \\
        \${LAMBDA_HAT_COMPILED:+--compiled "\$LAMBDA_HAT_COMPILED"}
    if [ -d runs ]; then ln -s runs published; fi
    cat > request.json <<'JSON'
    ${Resources.given(pack, task)}
    JSON
    """

    stub:
    """
    for run in ${pack.rows*.id.join(' ')}; do
        mkdir -p runs/\$run
        echo '{"id": "'\$run'", "status": "completed", "precision": "${task.ext.precision}"}' > runs/\$run/run.json
        touch runs/\$run/trace.nc
    done
    ln -s runs published
    cat > request.json <<'JSON'
    ${Resources.given(pack, task)}
    JSON
    """
}
