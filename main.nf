// One experiment file in; estimates of the local learning coefficient, pictures and a report out.
// PLAN -> BUILD_TARGET (each training) -> SAMPLE_FLOAT64 | SAMPLE_FLOAT32 (each pack of runs) -> ANALYZE (each pack) -> REPORT
// Channels carry ids, rows of the plan, alone or in packs, and paths. A row's names are in no cache entry before ANALYZE
// (lib/Row.groovy).

include { PLAN } from './modules/local/plan/main.nf'
include { BUILD_TARGET } from './modules/local/build_target/main.nf'
include { SAMPLE as SAMPLE_FLOAT64; SAMPLE as SAMPLE_FLOAT32 } from './modules/local/sample/main.nf'
include { ANALYZE } from './modules/local/analyze/main.nf'
include { REPORT } from './modules/local/report/main.nf'

// The paths of [id, path] pairs as one list, in an order that does not depend on who finished first.
def sortedPaths(pairs) {
    return pairs.toSortedList { a, b -> a[0] <=> b[0] }.map { all -> all.collect { pair -> pair[1] } }
}

workflow ESTIMATE {
    take:
    experiment // absolute path, as text
    changes // 'key=value; key=value'
    diagnostics // none, light or full
    environments // [analyze: id, build: id, sample: id]

    main:
    PLAN(experiment, changes, environments.analyze)
    def plan = PLAN.out.plan
    def trainings = plan.flatMap { folder -> Pack.read(folder.resolve('targets.jsonl')) }
    def packs = plan.flatMap { folder -> Pack.read(folder.resolve('runs.jsonl')) }

    // [pack id, pack, files of the user, each named by its sha256]
    def to_build = trainings.combine(plan).map { pack, folder ->
        [pack.id, pack, pack.ownFiles.collect { digest -> folder.resolve("files/${digest}") }]
    }
    BUILD_TARGET(to_build, environments.build)
    def targets = BUILD_TARGET.out.targets.flatMap { _id, folders -> folders.collect { folder -> [folder.name, folder] } }

    // [pack id, pack, names of the target's files, its files]
    def to_sample = packs
        .map { pack -> [pack.targetId, pack] }
        .combine(targets, by: 0)
        .map { _target_id, pack, target -> [pack.id, pack.sized(target), Parts.names(target), Parts.files(target)] }
    SAMPLE_FLOAT64(to_sample.filter { _id, pack, _names, _files -> pack.precision == 'float64' }, environments.sample)
    SAMPLE_FLOAT32(to_sample.filter { _id, pack, _names, _files -> pack.precision == 'float32' }, environments.sample)

    // [pack id, pack, names of the target's files, its files, a folder each run that left one]
    def to_analyze = to_sample
        .join(SAMPLE_FLOAT64.out.runs.mix(SAMPLE_FLOAT32.out.runs))
        .filter { _id, _pack, _names, _files, folders -> folders }
        .map { id, pack, names, files, folders -> [id, pack.named().of(folders), names, files, folders] }
    ANALYZE(to_analyze, plan.map { folder -> RunRecords.sources(folder, 'analyze') }, diagnostics, environments.analyze)

    def failures = BUILD_TARGET.out.failure.mix(SAMPLE_FLOAT64.out.failure, SAMPLE_FLOAT32.out.failure, ANALYZE.out.failure)
    REPORT(
        plan.map { folder -> folder.listFiles().findAll { file -> file.isFile() }.sort() },
        sortedPaths(targets),
        sortedPaths(ANALYZE.out.analyses),
        failures.flatten().toSortedList { a, b -> a.name <=> b.name },
        sortedPaths(SAMPLE_FLOAT64.out.request.mix(SAMPLE_FLOAT32.out.request)),
        plan.map { folder -> RunRecords.sources(folder, 'report') },
        environments.analyze,
    )

    emit:
    summary = REPORT.out.summary // the folder with results.csv, results.txt, counts.json, report.html
}

workflow {
    def parameters = new ParameterCheck(projectDir.resolve('nextflow_schema.json'))
    if (params.help) {
        log.info(parameters.help())
    }
    else {
        parameters.require(params)
        def environments = StageEnvironments.ids(projectDir, workflow.profile.tokenize(',').contains('gpu'))
        if (!workflow.stubRun && !workflow.containerEngine && !workflow.session.config.conda?.enabled) {
            StageEnvironments.require(environments, launchDir.resolve(params.env_dir))
        }
        if (Slurm.isExecutor(workflow.session)) {
            Slurm.reach(params.queue).bound(workflow.session).watch(workflow.workDir) { message -> log.warn(message) }
        }
        if (params.compile_cache) {
            CompiledPrograms.share(workflow.session, workflow.workDir)
        }
        else {
            CompiledPrograms.keepApart(workflow.session)
        }
        RunRecords.write(
            file("${params.outdir}/pipeline_info"), projectDir, workflow.workDir, params, workflow.manifest.version, environments)
        Row.register()
        Pack.register()
        ESTIMATE(launchDir.resolve(params.experiment).toString(), params.set.toString(), params.diagnostics, environments)
        def page = "${params.outdir}/summary/report.html"
        def summaries = []
        ESTIMATE.out.summary.subscribe { folder ->
            summaries << folder
            def counts = new groovy.json.JsonSlurper().parse(folder.resolve('counts.json').toFile())
            if (counts.failed + counts.missing) {
                Publishing.await()
                error("${counts.failed + counts.missing} of ${counts.planned} runs failed or are missing: see ${page}")
            }
        }
        workflow.onComplete = { summaries.each { folder -> log.info("\n${folder.resolve('results.txt').text}\nReport: ${page}") } }
    }
}
