import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import nextflow.BuildInfo

/** What the pipeline notes about itself: parameters, versions, and the sources that a stage's results come from. */
class RunRecords {

    /** Beside Nextflow's own records: the parameters, where the tasks work, and the versions of everything that runs. */
    static void write(Path folder, Path project, Path work, Map params, String version, Map<String, String> environments) {
        final packages = environments.collectEntries { _stage, id ->
            [(id): StageEnvironments.list(project, id).readLines().findAll { line -> line.contains('==') }]
        }
        Files.createDirectories(folder)
        folder.resolve('params.json').text = json(params)
        folder.resolve('folders.json').text = json([work: work.toUriString()])
        folder.resolve('versions.json').text = json(
            [pipeline: version, nextflow: BuildInfo.version, java: System.getProperty('java.version'), packages: packages])
    }

    /** The digests of the sources that `stage` uses, as JSON: an input of its tasks, so that an edited source computes anew. */
    static String sources(Path plan, String stage) {
        final stages = new JsonSlurper().parse(plan.resolve('stages.json').toFile())
        JsonOutput.toJson([(stage): stages[stage]])
    }

    private static String json(Map content) { JsonOutput.prettyPrint(JsonOutput.toJson(content)) + '\n' }
}
