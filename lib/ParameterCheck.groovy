import groovy.json.JsonSlurper
import groovy.transform.CompileStatic
import java.nio.file.Path
import nextflow.exception.WorkflowScriptErrorException

/** Refuses what nextflow_schema.json does not know, before anything starts, and tells what it does know. */
@CompileStatic
class ParameterCheck {

    private final Map<String, Map<String, Map>> groups

    ParameterCheck(Path schema) {
        final definitions = (new JsonSlurper().parse(schema.toFile()) as Map).get('$defs') as Map<String, Map>
        groups = definitions.collectEntries { String key, Map group -> [(group.title as String): group.properties] }
    }

    private Map<String, Map> known() {
        groups.values().inject([:] as Map<String, Map>) { Map<String, Map> all, Map<String, Map> group -> all + group }
    }

    /** Stops with one message when a parameter is unknown or wrong. */
    void require(Map params) {
        final problem = problem(params)
        if (problem) {
            throw new WorkflowScriptErrorException(problem)
        }
    }

    /** One message for the first wrong parameter, or null. Nextflow gives `--max-cpus` as `max-cpus` and as `maxCpus`. */
    private String problem(Map params) {
        final known = known()
        final unknown = params.keySet().collect { it as String }.findAll { String name -> !known.containsKey(name) }
        if (unknown) {
            final name = unknown.min { String it -> it.contains('-') ? 0 : 1 }
            return "--${name} is no parameter of this pipeline${hint(name, known.keySet())}; --help lists them all"
        }
        known.findResult { String name, Map rule -> illTyped(name, params[name], rule) }
    }

    private static String illTyped(String name, Object value, Map rule) {
        if (value == null || fits(value, rule)) {
            return null
        }
        final allowed = rule.enum ? "one of ${(rule.enum as List).join(', ')}"
            : rule.type == 'integer' ? "a whole number of at least ${rule.minimum}"
            : rule.type == 'boolean' ? 'true or false'
            : rule.pattern ? "like ${(rule.examples as List).first()}" : 'a text'
        "--${name} is \"${value}\", but must be ${allowed}"
    }

    /** A flag without its value arrives as true; a text of digits arrives as a number. */
    private static boolean fits(Object value, Map rule) {
        final text = value.toString()
        switch (rule.type) {
            case 'integer': return text ==~ /\d{1,9}/ && (text as int) >= (rule.minimum as int)
            case 'boolean': return text in ['true', 'false']
            default:
                return !(value instanceof Boolean) && (!rule.enum || text in (rule.enum as List)) &&
                    (!rule.pattern || text ==~ (rule.pattern as String))
        }
    }

    private static String hint(String name, Collection<String> known) {
        final plain = { String word -> word.toLowerCase().replaceAll('[-_]', '') }
        final nearest = known.min { String other -> distance(plain(name), plain(other)) }
        distance(plain(name), plain(nearest)) * 2 <= Math.max(name.size(), 3) ? "; did you mean --${nearest}?" : ''
    }

    /** Levenshtein's distance. */
    static int distance(String a, String b) {
        final initial = (0..b.size()).toList()
        final last = (1..<(a.size() + 1)).inject(initial) { List<Integer> above, int i ->
            (1..<(b.size() + 1)).inject([i]) { List<Integer> row, int j ->
                row + [[above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)].min()]
            }
        }
        last.last()
    }

    String help() {
        final blocks = groups.collect { String title, Map<String, Map> properties ->
            final lines = properties.collect { String name, Map rule ->
                final standard = rule.default == null || rule.default == '' ? '' : " [${rule.default}]"
                final choices = rule.enum ? " (${(rule.enum as List).join('|')})" : ''
                "  ${('--' + name).padRight(20)} ${rule.description}${choices}${standard}"
            }
            "${title}\n${lines.join('\n')}"
        }
        "Usage: nextflow run main.nf [-profile PROFILE] [-resume] [--PARAMETER VALUE ...]\n\n${blocks.join('\n\n')}\n"
    }
}
