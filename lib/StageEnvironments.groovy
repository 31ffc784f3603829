import groovy.transform.CompileStatic
import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest
import nextflow.exception.WorkflowScriptErrorException

/**
 * The stages' environments by id: `<stage>-<first 12 digits of the sha256 of envs/<stage>.txt>`. The id is a task's
 * input, so that other pinned dependencies are other results; where the environment lies is not.
 */
@CompileStatic
class StageEnvironments {

    static final List<String> STAGES = ['analyze', 'build', 'sample']

    static Map<String, String> ids(Path project) {
        STAGES.collectEntries { String stage ->
            final digest = MessageDigest.getInstance('SHA-256').digest(Files.readAllBytes(project.resolve("envs/${stage}.txt")))
            [(stage): "${stage}-${digest.encodeHex().toString().take(12)}".toString()]
        }
    }

    /** Stops with one message when an environment is not there. */
    static void require(Map<String, String> ids, Path folder) {
        final missing = ids.values().findAll { String id -> !Files.isExecutable(folder.resolve("${id}/bin/python3")) }
        if (missing) {
            throw new WorkflowScriptErrorException("no environment ${missing.join(', ')} in ${folder}: make them with `make environments`, " +
                'name the folder that has them by --env_dir, or take a container profile or -profile conda')
        }
    }
}
