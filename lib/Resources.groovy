import groovy.json.JsonOutput
import groovy.transform.CompileStatic
import nextflow.processor.TaskConfig
import nextflow.util.Duration
import nextflow.util.MemoryUnit

/**
 * What a task asks for, computed from the sizes of its rows: d parameters, n data points, chains, bytes a number.
 * Directives read it, so nothing of it enters a row, an id or a cache entry. They have no pack where Nextflow asks for a
 * job array: then the precision says which of the plan's packs are meant, and none means those of targets.
 */
@CompileStatic
class Resources {

    private static final long GIGABYTE = 1L << 30

    /** What the user's own model is taken to have before it is built: too many rather than a training that is killed. */
    private static final double OWN_PARAMETERS = 1e5d

    /** A gradient of a run has less than two chunks' rows in memory (python/lambda_hat_cli/posterior/chunks.py). */
    private static final double MOST_ROWS = 4000d

    /** Numbers for each parameter of a draw that variational inference, which draws all at once, has in memory. */
    private static final double NUMBERS_A_DRAW = 12d

    /** What the user's own function may take, for its data or a training of its own. */
    private static final double OWN_SECONDS = 3600d

    /** A second CPU pays when one gradient of all chains takes long against starting XLA's threads. */
    private static int cpusOf(Row row) {
        final work = chains(row) * size(row, 'd') * size(row, 'n')
        work < 1e9d ? 1 : work < 1e10d ? 2 : 4
    }

    /**
     * Python, JAX and its compiler, the chains' vectors and losses, the activations of a gradient on each CPU, and copies
     * of the data in memory. Sampling takes the data in chunks, training a batch as a whole. Only the settings of variational
     * inference have draws.
     */
    private static MemoryUnit memoryOf(Row row, int attempt) {
        final d = size(row, 'd')
        final n = size(row, 'n')
        final together = settings(row) ? Math.min(n, MOST_ROWS) : n
        final numbers = chains(row) * (64 * d + 8 * n) + cpusOf(row) * 16 * together * Math.sqrt(d) + NUMBERS_A_DRAW * draws(row) * d
        final data = 8 * ((row.fields.data_bytes ?: 0) as Number).doubleValue()
        final bytes = 2 * GIGABYTE + numbers * (row.precision == 'float64' ? 8 : 4) + data
        new MemoryUnit((bytes * attempt) as long)
    }

    /** The rows of a pack follow each other: it needs what its largest needs. */
    static int cpus(Pack pack, String precision = null) { asking(pack, precision)*.rows.flatten().collect { Object row -> cpusOf(row as Row) }.max() }

    static MemoryUnit memory(Pack pack, int attempt, String precision = null) {
        asking(pack, precision)*.rows.flatten().collect { Object row -> memoryOf(row as Row, attempt) }.max()
    }

    /** As JSON what a task of the pack was given, for the report: its runs' ids, CPUs, bytes, seconds and attempt. */
    static String given(Pack pack, TaskConfig task) {
        JsonOutput.toJson([
            runs: pack.rows*.id, cpus: task.getCpus(), memory: task.getMemory()?.toBytes(), seconds: task.getTime()?.toSeconds(),
            attempt: task.getAttempt(),
        ])
    }

    /** The targets of a pack come from one training, which ends when the steps of the longest are taken. */
    static Duration buildTime(Pack pack, int attempt) {
        duration(asking(pack, null).collect { Pack each ->
            final longest = each.rows.collect { Row row -> training(row) + (isOwn(row) ? OWN_SECONDS : 0d) }.max() as double
            longest + 10d * (each.rows.size() - 1)
        }.max(), attempt)
    }

    /** A run ends by itself when its seconds are used up, but for warm-up's last block and writing. */
    static Duration time(Pack pack, int attempt, String precision) {
        duration(asking(pack, precision).collect { Pack each -> each.rows.collect { Row row -> 1.5d * budget(row) + 60 }.sum() as double }.max(), attempt)
    }

    /** Pictures take seconds a run. */
    static Duration analysisTime(Pack pack, int attempt) {
        duration((pack ? [pack] : Pack.planned()).collect { Pack each -> 3600 + 30d * each.rows.size() }.max(), attempt)
    }

    /** The pack alone; without one all that the plan has for this process. */
    private static Collection<Pack> asking(Pack pack, String precision) {
        pack ? [pack] : Pack.planned().findAll { Pack each -> each.precision == precision }
    }

    /** These seconds, and twenty minutes for start and compilation. */
    private static Duration duration(double seconds, int attempt) {
        new Duration(((seconds + 1200) * 1000 * attempt) as long)
    }

    private static double budget(Row row) {
        final seconds = (settings(row).budget as Map)?.seconds as Number
        seconds ? seconds.doubleValue() : 0d
    }

    /** Seconds that a target's training takes on a slow CPU: a millisecond a step, and each row's multiplications. */
    private static double training(Row row) {
        final train = (row.fields.spec as Map)?.train as Map
        if (!train) {
            return 0d
        }
        final rows = train.batch_size == 'full' ? size(row, 'n') : (train.batch_size as Number).doubleValue()
        final parameters = isOwn(row) ? OWN_PARAMETERS : size(row, 'd')
        (train.steps as Number).doubleValue() * (1e-3d + rows * parameters / 2e8d)
    }

    /** Whether a target's model is the user's file. */
    private static boolean isOwn(Row row) { ((row.fields.spec as Map)?.model as Map)?.kind == 'python' }

    private static Map settings(Row row) { (row.fields.runs ?: [:]) as Map }

    private static double chains(Row row) { ((settings(row).chains ?: 1) as Number).doubleValue() }

    private static double draws(Row row) { (((row.fields.settings as Map)?.draws ?: 0) as Number).doubleValue() }

    /** A thousand where the plan cannot know it and the target is not built yet. */
    private static double size(Row row, String key) { ((row.fields[key] ?: 1000) as Number).doubleValue() }
}
