import groovy.transform.CompileStatic
import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest
import nextflow.exception.WorkflowScriptErrorException

/**
 * The stages' environments by id: `<list>-<first 12 digits of the sha256 of envs/<list>.txt>`. The id is a task's
 * input, so that other pinned dependencies are other results; where the environment lies is not.
 */
@CompileStatic
class StageEnvironments {

    /** The environment of each stage: with a GPU the samplers' is another. */
    static Map<String, String> ids(Path project, boolean gpu = false) {
        [analyze: 'analyze', build: 'build', sample: gpu ? 'cuda' : 'sample'].collectEntries { String stage, String list ->
            final digest = MessageDigest.getInstance('SHA-256').digest(Files.readAllBytes(project.resolve("envs/${list}.txt")))
            [(stage): "${list}-${digest.encodeHex().toString().take(12)}".toString()]
        }
    }

    /** The pinned list that an environment has. */
    static Path list(Path project, String id) { project.resolve("envs/${id.tokenize('-').first()}.txt") }

    /** Stops with one message when an environment is not there. */
    static void require(Map<String, String> ids, Path folder) {
        final missing = ids.values().findAll { String id -> !Files.isExecutable(folder.resolve("${id}/bin/python3")) }
        if (missing) {
            throw new WorkflowScriptErrorException("no environment ${missing.join(', ')} in ${folder}: make them with `scripts/environments --env-dir '${folder}' ${missing*.tokenize('-')*.first().join(' ')}`, " +
                'name the folder that has them by --env_dir, or take a container profile or -profile conda')
        }
    }
}
