import com.esotericsoftware.kryo.Kryo
import com.esotericsoftware.kryo.Serializer
import com.esotericsoftware.kryo.io.Input
import com.esotericsoftware.kryo.io.Output
import com.google.common.hash.Hasher
import groovy.transform.CompileStatic
import java.nio.file.Path
import java.util.concurrent.ConcurrentHashMap
import nextflow.util.CacheFunnel
import nextflow.util.CacheHelper
import nextflow.util.KryoHelper

/**
 * Rows that share a process: targets of one training, or runs of one target and precision. A cache entry sees of it what
 * it sees of its rows.
 */
@CompileStatic
class Pack implements CacheFunnel {

    /** This run's packs by id, with the sizes known so far. */
    private static final Map<String, Pack> PLANNED = new ConcurrentHashMap<>()

    /** In the order of the plan. */
    final List<Row> rows

    private Pack(List<Row> rows) { this.rows = rows }

    static Collection<Pack> planned() { PLANNED.values() }

    static void register() { KryoHelper.register(Pack, ByIds) }

    /** The packs of the rows in a file of the plan. */
    static List<Pack> read(Path file) {
        Row.read(file).groupBy { Row row -> row.fields.pack }.values().collect { List<Row> rows -> new Pack(rows).noted() }
    }

    private Pack noted() {
        PLANNED[id] = this
        this
    }

    String getId() { rows[0].fields.pack as String }

    String getTargetId() { rows[0].targetId }

    /** auto, cpu or gpu: the runs of a pack agree on it. */
    String getDevice() { rows[0].fields.device as String }

    String getPrecision() { rows[0].precision }

    /** For a person: the first row's folder, and how many more. */
    String getLabel() { rows.size() > 1 ? "${rows[0].folder} and ${rows.size() - 1} more" : rows[0].folder }

    /** The user's files that its targets are made of, each once, as they are called in the plan's folder `files`. */
    List<String> getOwnFiles() { rows.collectMany { Row row -> row.ownFiles }.toUnique().toSorted() }

    Pack named() { new Pack(rows*.named()) }

    Pack sized(Path target) { new Pack(rows.collect { Row row -> row.sized(target) }).noted() }

    /** The rows whose runs left these folders, which are named by the runs' ids. */
    Pack of(Collection<Path> folders) {
        final ids = folders.collect { Path folder -> folder.fileName.toString() } as Set<String>
        new Pack(rows.findAll { Row row -> row.id in ids })
    }

    /** Where `<anything>/<row's id>` or a file below it goes in the results: the row's folder, or the file below that. */
    String place(String file) {
        final parts = file.tokenize('/')
        final row = rows.find { Row row -> row.id == parts[1] }
        ([row.folder] + parts.drop(2)).join('/')
    }

    @Override
    Hasher funnel(Hasher hasher, CacheHelper.HashMode mode) { CacheHelper.hasher(hasher, rows, mode) }

    @Override
    String toString() { "pack ${id}" }

    /** As its rows are stored: under the names of the plan that reads it. */
    @CompileStatic
    static class ByIds extends Serializer<Pack> {

        @Override
        void write(Kryo kryo, Output output, Pack pack) { output.writeString(pack.rows*.id.join(' ')) }

        @Override
        Pack read(Kryo kryo, Input input, Class<Pack> type) {
            new Pack(input.readString().tokenize(' ').collect { String id -> Row.planned(id) })
        }
    }
}
