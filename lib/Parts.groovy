import groovy.transform.CompileStatic
import java.nio.file.Files
import java.nio.file.Path

/**
 * A folder as an input of a task, file by file: the cache entry of a file holds what it says, that of a folder where it
 * lies and since when. Files staged as `parts/1/<name>`, `parts/2/<name>` ... are put together again in the task.
 */
@CompileStatic
class Parts {

    /** Paths of the files below a folder relative to it, sorted. */
    static List<String> names(Path folder) {
        Files.walk(folder).withCloseable { files ->
            files.filter { Path file -> Files.isRegularFile(file) }
                .map { Path file -> folder.relativize(file).toString() }.sorted().toList()
        }
    }

    static List<Path> files(Path folder) { names(folder).collect { String name -> folder.resolve(name) } }

    /** Shell commands that make `folder` of the staged files, which are links: what lies deeper is copied. */
    static String together(List<String> names, String folder) {
        names.withIndex(1).collect { String name, int index ->
            final file = new File(name)
            final place = file.parent ? "${folder}/${file.parent}".toString() : folder
            final put = file.parent ? 'cp' : 'ln -s'
            final part = (file.parent ? '' : '"$PWD"/') + quoted("parts/${index}/${file.name}".toString())
            "mkdir -p ${quoted(place)} && ${put} ${part} ${quoted("${place}/${file.name}".toString())}".toString()
        }.join('\n    ')
    }

    private static String quoted(String text) { "'" + text.replace("'", "'\\''") + "'" }
}
