// Rows of targets become target folders: data, w* and what is known about them. The checkpoints of a training are a pack.

process BUILD_TARGET {
    tag { pack.label }
    label 'env_build'
    cpus { Resources.cpus(pack) }
    memory { Resources.memory(pack, task.attempt) }
    time { Resources.buildTime(pack, task.attempt) }
    containerOptions { CompiledPrograms.shownTo(workflow.containerEngine, workflow.workDir) }

    input:
    tuple val(id), val(pack), path(files, stageAs: 'files/*') // files: pack.ownFiles, each named by its sha256
    val env_id

    output:
    tuple val(id), path('targets/*', arity: '0..*'), emit: targets // a folder for each that did not fail, named by its id
    path 'failures/*', emit: failure, optional: true

    script:
    """
    unset "\${!JAX_@}" "\${!XLA_@}" "\${!PJRT_@}" "\${!MPL@}" "\${!MATPLOTLIB@}" "\${!PYTHON@}"
    export JAX_ENABLE_X64=0 JAX_DEFAULT_PRNG_IMPL=threefry2x32 JAX_PLATFORMS=cpu
    export NPROC=${task.cpus} OMP_NUM_THREADS=${task.cpus} OPENBLAS_NUM_THREADS=${task.cpus} MKL_NUM_THREADS=${task.cpus}
    export MPLBACKEND=Agg MPLCONFIGDIR="\$PWD/.matplotlib"
    cat > rows.jsonl <<'JSON'
    ${pack.rows*.json.join('\n    ')}
    JSON
    build-target --rows rows.jsonl ${pack.ownFiles ? '--files files' : ''} --out targets --failures failures \\
        \${LAMBDA_HAT_COMPILED:+--compiled "\$LAMBDA_HAT_COMPILED"}
    """

    stub:
    """
    for target in ${pack.rows*.id.join(' ')}; do
        mkdir -p targets/\$target
        echo '{"id": "'\$target'", "n": 100000, "d": 10000}' > targets/\$target/target.json
        touch targets/\$target/data.npz targets/\$target/params.eqx targets/\$target/static.eqx
    done
    """
}
