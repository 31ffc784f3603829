import groovy.transform.CompileStatic
import java.util.concurrent.ThreadPoolExecutor
import nextflow.Global
import nextflow.Session

/** An error ends the session and drops files that are still being copied to the results: wait for them first. */
@CompileStatic
class Publishing {

    static void await() {
        final pool = ((Session) Global.session).publishDirExecutorService() as ThreadPoolExecutor
        while (pool.activeCount || pool.queue.size()) {
            sleep(50)
        }
    }
}
