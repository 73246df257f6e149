import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Runs SQL scripts with Flink inside this process. Each line of the standard input is the path of a script; when its last
 * statement has ended, a line of JSON says what it took: seconds, seconds of the processors, the peak of the process's
 * memory. Arguments: the parallelism, and a folder for checkpoints.
 */
public class Runner {
    public static void main(String[] arguments) throws Exception {
        Configuration settings = new Configuration();
        settings.setString("parallelism.default", arguments[0]);
        settings.setString("state.backend.type", "hashmap");
        settings.setString("execution.checkpointing.dir", "file://" + arguments[1]);
        settings.setString("execution.checkpointing.interval", "1 s");
        settings.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        settings.setString("table.exec.mini-batch.enabled", "true");
        settings.setString("table.exec.mini-batch.allow-latency", "2 s");
        settings.setString("table.exec.mini-batch.size", "50000");
        settings.setString("table.optimizer.distinct-agg.split.enabled", "true");
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("table.local-time-zone", "UTC");
        BufferedReader scripts = new BufferedReader(new InputStreamReader(System.in));
        for (String script = scripts.readLine(); script != null; script = scripts.readLine()) {
            TableEnvironment tables =
                    TableEnvironment.create(
                            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(settings).build());
            long begun = System.nanoTime();
            long processors = processors();
            String failure = null;
            try {
                run(tables, Files.readString(Path.of(script)));
            } catch (Exception exception) {
                Throwable cause = exception;
                while (cause.getCause() != null) {
                    cause = cause.getCause();
                }
                failure = cause.toString();
            }
            if (failure == null) {
                System.out.printf(
                        "{\"seconds\": %.3f, \"cpu_seconds\": %.3f, \"peak_mib\": %d}%n",
                        (System.nanoTime() - begun) / 1e9, (processors() - processors) / 1e9, peak());
            } else {
                System.out.printf("{\"failed\": \"%s\"}%n", failure.replaceAll("[\\\\\"\\p{Cntrl}]", " "));
            }
            System.out.flush();
        }
        // What is left of a job that failed must not keep the process.
        System.exit(0);
    }

    private static void run(TableEnvironment tables, String script) throws Exception {
        for (String statement : script.split(";\\s*\n")) {
            String text = statement.replaceAll("(?m)^\\s*--.*$", "").strip();
            if (text.isEmpty()) {
                continue;
            }
            TableResult result = tables.executeSql(text);
            if (result.getJobClient().isPresent()) {
                result.await();
            }
        }
    }

    /** Nanoseconds that this process has used of the processors. */
    private static long processors() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
                .getProcessCpuTime();
    }

    /** MiB, as the system counts them. */
    private static long peak() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("[^0-9]", "")) / 1024;
            }
        }
        return 0;
    }
}
