import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.sun.management.OperatingSystemMXBean;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ThreadLocalRandom;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Confluent's Parallel Consumer in KEY order: the job arrives in BENCH_JOB, the result leaves as a file. */
public final class ParallelRunner {
    record Tick(
            @JsonProperty(required = true) String account,
            @JsonProperty(required = true) long number,
            @JsonProperty(required = true) String symbol,
            @JsonProperty(required = true) Side side,
            @JsonProperty(required = true) long quantity,
            @JsonProperty(required = true) double price,
            @JsonProperty(required = true) String venue,
            String note) {
        Tick {
            if (account.isEmpty() || number < 0 || symbol.isEmpty() || quantity < 1 || !(price > 0)) {
                throw new IllegalArgumentException("the record breaks its contract");
            }
        }
    }

    enum Side { buy, sell }

    record Job(String bootstrap, String topic, String group, int records, int keys, double[] pause, String result,
            int concurrency, int connections, String database) {}

    /** The same account as ledger.py, for handlers in threads. */
    static final class Ledger {
        private final Job job;
        private final OperatingSystemMXBean system =
                (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        private long began;
        private long used;
        private final int[] latest;
        private final int[] running;
        private final byte[] seen;
        private int missing;
        private int violations;
        private int duplicates;

        Ledger(Job job) {
            this.job = job;
            latest = new int[job.keys()];
            java.util.Arrays.fill(latest, -1);
            running = new int[job.keys()];
            seen = new byte[job.records()];
            missing = job.records();
        }

        void begin() {
            began = System.nanoTime();
            used = system.getProcessCpuTime();
        }

        synchronized void started(int number) {
            int key = number % job.keys();
            boolean overlaps = running[key] > 0;
            if (seen[number] > 0) {
                duplicates++;
                violations += overlaps ? 1 : 0;
            } else {
                seen[number] = 1;
                violations += overlaps || number < latest[key] ? 1 : 0;
            }
            latest[key] = Math.max(latest[key], number);
            running[key]++;
        }

        synchronized void finished(int number) throws Exception {
            running[number % job.keys()]--;
            if (seen[number] == 2) {
                return;
            }
            seen[number] = 2;
            if (--missing == 0) {
                write((System.nanoTime() - began) / 1e9, (system.getProcessCpuTime() - used) / 1e9);
            }
        }

        private void write(double seconds, double cpu) throws Exception {
            Path draft = Path.of(job.result() + ".draft");
            Files.writeString(draft,
                    "{\"seconds\": %s, \"cpu_seconds\": %s, \"order_violations\": %d, \"duplicates\": %d}"
                            .formatted(seconds, cpu, violations, duplicates));
            Files.move(draft, Path.of(job.result()), StandardCopyOption.ATOMIC_MOVE);
        }
    }

    public static void main(String[] arguments) throws Exception {
        ObjectMapper json = new ObjectMapper()
                .configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false)
                .configure(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES, true);
        ObjectReader ticks = json.readerFor(Tick.class);
        Job job = json.readValue(System.getenv("BENCH_JOB"), Job.class);
        Ledger ledger = new Ledger(job);
        ParallelStreamProcessor<byte[], byte[]> processor =
                ParallelStreamProcessor.createEosStreamProcessor(options(job));
        ledger.begin(); // its classes are loaded, as those of the Python runners are: what follows is joining
        processor.subscribe(List.of(job.topic()));
        processor.poll(context -> {
            try {
                int number = (int) ticks.<Tick>readValue(context.getSingleConsumerRecord().value()).number();
                ledger.started(number);
                work(job);
                ledger.finished(number);
            } catch (Exception error) {
                throw new RuntimeException(error);
            }
        });
    }

    private static ParallelConsumerOptions<byte[], byte[]> options(Job job) {
        Properties known = new Properties();
        known.put("bootstrap.servers", job.bootstrap());
        known.put("group.id", job.group());
        known.put("auto.offset.reset", "earliest");
        known.put("isolation.level", "read_committed");
        known.put("enable.auto.commit", "false");
        known.put("key.deserializer", ByteArrayDeserializer.class.getName());
        known.put("value.deserializer", ByteArrayDeserializer.class.getName());
        return ParallelConsumerOptions.<byte[], byte[]>builder()
                .consumer(new KafkaConsumer<>(known))
                .ordering(ParallelConsumerOptions.ProcessingOrder.KEY)
                .maxConcurrency(job.concurrency())
                .build();
    }

    private static void work(Job job) throws InterruptedException {
        double least = job.pause()[0];
        double most = job.pause()[1];
        if (most > 0) {
            double seconds = least + (most - least) * ThreadLocalRandom.current().nextDouble();
            long nanos = (long) (seconds * 1e9);
            Thread.sleep(nanos / 1_000_000, (int) (nanos % 1_000_000));
        }
    }
}
