import groovy.transform.CompileStatic
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Session

/**
 * A folder of compiled programs in the work folder, which building and sampling tasks share: they find it by a variable.
 * Variables and a container's options are in no cache entry, and sharing changes no result.
 */
@CompileStatic
class CompiledPrograms {

    private static final String VARIABLE = 'LAMBDA_HAT_COMPILED'

    static void share(Session session, Path workDir) {
        setting(session)[VARIABLE] = Files.createDirectories(folder(workDir)).toString()
    }

    /** So that a variable of the caller's has no say. */
    static void keepApart(Session session) { setting(session)[VARIABLE] = '' }

    /** A container sees of the work folder what its task's inputs lie in: these options show it the folder too. */
    static String shownTo(String engine, Path workDir) {
        final shown = folder(workDir)
        if (!engine || !Files.isDirectory(shown)) { return '' }
        final option = engine in ['docker', 'podman'] ? '--volume' : '--bind'
        "$option '$shown:$shown'"
    }

    private static Path folder(Path workDir) { workDir.resolve('compiled') }

    private static Map<String, Object> setting(Session session) {
        final there = (session.config.env ?: [:]) as Map<String, Object>
        session.config.env = there
        there
    }
}
