import com.esotericsoftware.kryo.Kryo
import com.esotericsoftware.kryo.Serializer
import com.esotericsoftware.kryo.io.Input
import com.esotericsoftware.kryo.io.Output
import com.google.common.hash.Hasher
import groovy.json.JsonSlurper
import groovy.transform.CompileStatic
import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.ConcurrentHashMap
import nextflow.util.CacheFunnel
import nextflow.util.CacheHelper
import nextflow.util.KryoHelper

/**
 * One line of the plan. A task's cache entry sees what the task's result depends on: everything but the user's names,
 * so that renaming a target or a sampler computes nothing anew. `named()` gives a row whose names count as well.
 */
@CompileStatic
class Row implements CacheFunnel {

    static final List<String> NAMES = ['name', 'entry', 'step', 'varied', 'folder', 'target', 'sampler']

    /** This run's rows by id. */
    private static final Map<String, Row> PLANNED = new ConcurrentHashMap<>()

    /** The line of the plan, as JSON in ASCII. */
    final String json
    final Map<String, Object> fields
    final boolean namesCount

    private Row(String json, Map<String, Object> fields, boolean namesCount) {
        this.json = json
        this.fields = fields
        this.namesCount = namesCount
    }

    /** Nextflow stores a task's inputs with its cache entry: tell it how, before the first task ends. */
    static void register() { KryoHelper.register(Row, ById) }

    /** The row of this run's plan that has the id, or null. */
    static Row planned(String id) { PLANNED[id] }

    static List<Row> read(Path file) {
        file.readLines('UTF-8').findAll { String line -> line.trim() }.collect { String line ->
            final row = new Row(ascii(line), new JsonSlurper().parseText(line) as Map<String, Object>, false)
            PLANNED[row.id] = row
            row
        }
    }

    String getId() { fields.id as String }

    String getFolder() { fields.folder as String }

    String getTargetId() { fields.target_id as String }

    String getPrecision() { fields.precision as String }

    /** The sha256 of each of the user's files that a target is made of. */
    List<String> getOwnFiles() { ((fields.files ?: [:]) as Map<String, String>).values() as List<String> }

    /** The same row for stages that write the user's names into their results. */
    Row named() { new Row(json, fields, true) }

    /** The same row with the sizes that only the built target knows; they guide resources and enter no cache entry. */
    Row sized(Path target) {
        final record = new JsonSlurper().parse(target.resolve('target.json').toFile()) as Map<String, Object>
        new Row(json, fields + [d: record.d, n: record.n, data_bytes: Files.size(target.resolve('data.npz'))], namesCount)
    }

    @Override
    Hasher funnel(Hasher hasher, CacheHelper.HashMode mode) {
        final ignored = ['d', 'n', 'data_bytes', 'pack'] + (namesCount ? [] as List<String> : NAMES)
        CacheHelper.hasher(hasher, new TreeMap<String, Object>(fields.findAll { String key, Object value -> !(key in ignored) }), mode)
    }

    @Override
    String toString() { "row ${id}" }

    /** Tasks write the row with whatever locale their machine has. */
    private static String ascii(String text) {
        text.collect { String character -> character < '\u0080' ? character : String.format('\\u%04x', character.codePointAt(0)) }.join('')
    }

    /** A cached task is published under the names that this run's plan gives, not under those of the run that made it. */
    @CompileStatic
    static class ById extends Serializer<Row> {

        @Override
        void write(Kryo kryo, Output output, Row row) { output.writeString(row.id) }

        @Override
        Row read(Kryo kryo, Input input, Class<Row> type) { planned(input.readString()) }
    }
}
