import groovy.transform.CompileStatic
import java.nio.file.Path
import nextflow.Session
import nextflow.exception.WorkflowScriptErrorException
import nextflow.util.Duration
import nextflow.util.MemoryUnit

/**
 * What the pipeline must know of a SLURM cluster besides its tasks: that it answers, how much its largest node has, and
 * which jobs it will never start.
 */
@CompileStatic
class Slurm {

    private static final List<String> COMMANDS = ['sbatch', 'squeue', 'scancel', 'sinfo']

    /** Reasons of squeue for a job to wait that neither another job's end takes away nor a node that comes back. */
    private static final String FOR_EVER = 'PartitionConfig|PartitionTimeLimit|BadConstraints|AccountNotAllowed|' +
        'QOSNotAllowed|Invalid(Account|QOS)|MaxMemPerLimit|(QOS|Assoc)Max\\w*Per(Job|Node)\\w*|QOSMin\\w+'

    private static final long LOOK_EVERY = 20_000L

    /** What sinfo says of each node of the chosen partitions: partition, CPUs, MiB, time limit. */
    private final List<List<String>> nodes

    /** Jobs that waited for ever when they were looked at last. */
    private Set<String> suspects = [] as Set<String>

    private Slurm(List<List<String>> nodes) { this.nodes = nodes }

    static boolean isExecutor(Session session) { (session.config.process as Map)?.executor == 'slurm' }

    /** The cluster; stops with one message, before anything is submitted, where there is none or not the partition. */
    static Slurm reach(String partition) {
        final folders = System.getenv('PATH').tokenize(File.pathSeparator)
        final missing = COMMANDS.findAll { String command -> !folders.any { String folder -> new File(folder, command).canExecute() } }
        if (missing) {
            throw new WorkflowScriptErrorException("-profile slurm needs SLURM's commands, and ${missing.join(', ')} " +
                "${missing.size() > 1 ? 'are' : 'is'} not on PATH: start the pipeline where jobs are submitted from, or take -profile local")
        }
        final answer = told(['sinfo', '--noheader', '--all', '--Node', '--format=%P %c %m %l'])
        if (answer == null) {
            throw new WorkflowScriptErrorException('sinfo does not answer: is the SLURM controller running, and the one that ' +
                'SLURM_CONF names? By hand it says what it misses. Nothing was submitted: start the pipeline where sinfo answers, or take -profile local')
        }
        final all = answer.readLines()*.tokenize()
        final partitions = all.collect { List<String> node -> node[0] - '*' }.toUnique()
        final chosen = partition ? partition.tokenize(',') : all*.first().findAll { String name -> name.endsWith('*') }.collect { String name -> name - '*' }
        if (!chosen.every { String name -> name in partitions }) {
            throw new WorkflowScriptErrorException("--queue is \"${partition}\", but the cluster's partitions are ${partitions.join(', ')}")
        }
        new Slurm(all.findAll { List<String> node -> node[0] - '*' in chosen })
    }

    /**
     * Bounds every request by the partition's largest node and its time limit, as -profile local does by this machine:
     * more would wait for ever, and so would what a retry doubles.
     */
    Slurm bound(Session session) {
        final process = session.config.process as Map
        process.resourceLimits = smaller((process.resourceLimits ?: [:]) as Map<String, Object>, largest())
        this
    }

    private static Map<String, Object> smaller(Map<String, Object> asked, Map<String, Object> there) {
        final cpus = [asked.cpus as Integer, there.cpus as Integer].findAll()
        // Through text they would be rounded.
        final memory = [asked.memory, there.memory].findAll().collect { Object size ->
            size instanceof MemoryUnit ? size : new MemoryUnit(size.toString())
        }
        final time = [asked.time, there.time].findAll().collect { Object limit ->
            limit instanceof Duration ? limit : new Duration(limit.toString())
        }
        [cpus: cpus.min(), memory: memory.min(), time: time.min()].findAll { String _name, Object limit -> limit } as Map<String, Object>
    }

    /** The most CPUs, memory and time, each on its own: where no node has all, SLURM refuses the job, or `look` finds it. */
    private Map<String, Object> largest() {
        final seconds = nodes.collect { List<String> node -> seconds(node[3]) }
        [
            cpus: nodes.collect { List<String> node -> node[1] as int }.max(),
            memory: nodes ? new MemoryUnit(nodes.collect { List<String> node -> node[2] as long }.max() * (1L << 20)) : null,
            time: seconds.any { Long limit -> limit == null } ? null : nodes ? new Duration(seconds.max() * 1000) : null,
        ] as Map<String, Object>
    }

    /** Seconds of `[days-][hours:]minutes:seconds`; null without a limit. */
    private static Long seconds(String limit) {
        if (!(limit ==~ /(\d+-)?[\d:]+/)) {
            return null
        }
        final days = limit.contains('-') ? limit.tokenize('-')[0] as long : 0L
        days * 86400 + limit.tokenize('-').last().tokenize(':').inject(0L) { Long sum, String part -> 60 * sum + (part as long) }
    }

    /**
     * From now on, cancels this pipeline's jobs that can never start, so that their tasks fail and the others go on.
     *
     * @param work the folder below which this pipeline's tasks, and no other's, work.
     * @param warn takes the message about each.
     */
    void watch(Path work, Closure<?> warn) {
        // A task works in its physical folder, which the given one may only link to.
        final below = [work, work.toRealPath()].collect { Path folder -> "${folder}/".toString() }
        new Timer('slurm', true).schedule({ look(below, warn) } as TimerTask, LOOK_EVERY, LOOK_EVERY)
    }

    /** Nothing but what was seen twice is cancelled: a partition may be changed while one looks. */
    private void look(List<String> below, Closure<?> warn) {
        final waiting = (told(['squeue', '--noheader', '--me', '--states=PENDING', '--format=%i|%r|%j|%Z']) ?: '').readLines()*.split('\\|', 4)
        final stuck = waiting.findAll { String[] job -> job.size() == 4 && job[1] ==~ FOR_EVER && below.any { String folder -> job[3].startsWith(folder) } }
        stuck.findAll { String[] job -> job[0] in suspects }.each { String[] job ->
            warn.call("SLURM will never start job ${job[0]} (${job[2] - 'nf-'}): ${job[1]}. It was cancelled. Its task asks for more than " +
                'partition, account or QOS allow: see --queue, --qos, --account, --max_cpus, --max_memory, --max_time and --cluster_options')
            told(['scancel', job[0]])
        }
        suspects = stuck*.first() as Set<String>
    }

    /** What a command prints, or null where it fails or cannot be started. */
    private static String told(List<String> command) {
        final Process process
        try {
            process = command.execute()
        }
        catch (IOException ignored) {
            return null // too many processes, or no memory for one more: the next look may have them
        }
        final said = new StringBuffer()
        process.waitForProcessOutput(said, new StringBuffer())
        process.exitValue() == 0 ? said.toString() : null
    }
}
