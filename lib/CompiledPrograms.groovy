import groovy.transform.CompileStatic
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Session

/**
 * A folder of compiled programs in the work folder, which building and sampling tasks share: they find it by a variable.
 * Variables and the engine's options are in no cache entry, and sharing changes no result.
 */
@CompileStatic
class CompiledPrograms {

    private static final String VARIABLE = 'LAMBDA_HAT_COMPILED'

    /** A container sees of the work folder what its task's inputs lie in: so the folder is shown to it. */
    private static final Map<String, String> SHOWN = [
        docker: "--volume '%1\$s:%1\$s'", podman: "--volume '%1\$s:%1\$s'", charliecloud: "--bind '%1\$s:%1\$s'",
        singularity: "--bind '%1\$s:%1\$s'", apptainer: "--bind '%1\$s:%1\$s'",
    ]

    static void share(Session session, Path workDir, String engine) {
        final folder = Files.createDirectories(workDir.resolve('compiled'))
        setting(session, 'env')[VARIABLE] = folder.toString()
        if (engine) {
            final options = setting(session, engine)
            options.runOptions = [options.runOptions, String.format(SHOWN[engine], folder)].findAll().join(' ')
        }
    }

    /** So that a variable of the caller's has no say. */
    static void keepApart(Session session) { setting(session, 'env')[VARIABLE] = '' }

    private static Map<String, Object> setting(Session session, String scope) {
        final there = (session.config[scope] ?: [:]) as Map<String, Object>
        session.config[scope] = there
        there
    }
}
