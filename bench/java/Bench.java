// Kafka's Java client doing one piece of work once, like bench/python/program.py: java Bench '{"work": "produce", ...}'.
// It warms up first, because Java compiles while it runs, and says how much CPU time it had used by then.

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Bench {
    private final String job;
    private final byte[][] values;
    private final List<String> topics = new ArrayList<>();
    private final List<Long> latencies = new ArrayList<>();
    private final AtomicLong reported = new AtomicLong();
    private long warmUp;

    Bench(String job) throws Exception {
        this.job = job;
        Matcher names = Pattern.compile("\"([^\"]+)\"").matcher(text("\"topics\": \\[([^\\]]*)\\]"));
        while (names.find()) topics.add(names.group(1));
        byte[] content = Files.readAllBytes(Path.of(string("values_file")));
        values = new byte[content.length / number("size")][];
        for (int index = 0; index < values.length; index++) {
            int start = index * number("size");
            values[index] = java.util.Arrays.copyOfRange(content, start, start + number("size"));
        }
    }

    // The harness writes flat JSON, so patterns are enough, and the Java client brings no parser.
    private String text(String pattern) {
        Matcher matcher = Pattern.compile(pattern).matcher(job);
        return matcher.find() ? matcher.group(1) : "";
    }

    private String string(String name) {
        return text("\"" + name + "\": \"([^\"]*)\"");
    }

    private int number(String name) {
        return Integer.parseInt(text("\"" + name + "\": (-?\\d+)"));
    }

    private boolean is(String name) {
        return text("\"" + name + "\": (true|false)").equals("true");
    }

    private Map<String, Object> settings() {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", string("bootstrap"));
        if (!string("ca").isEmpty()) {
            settings.put("security.protocol", "SSL");
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.location", string("ca"));
        }
        Matcher given = Pattern.compile("\"([^\"]+)\": (\\d+)").matcher(text("\"settings\": \\{([^}]*)\\}"));
        while (given.find()) settings.put(given.group(1), given.group(2));
        return settings;
    }

    private KafkaProducer<byte[], byte[]> producer(boolean lingers) {
        Map<String, Object> settings = settings();
        settings.put("acks", number("acks") == -1 ? "all" : "" + number("acks"));
        settings.put("enable.idempotence", number("acks") == -1);
        settings.put("compression.type", string("codec"));
        if (!lingers) settings.put("linger.ms", 0);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private void produce(KafkaProducer<byte[], byte[]> producer, int count) {
        boolean keys = is("keys"), reports = is("reports");
        byte[][] names = new byte[1000][];
        for (int index = 0; index < names.length; index++) names[index] = String.format("%08d", index).getBytes();
        for (int index = 0; index < count; index++) {
            String topic = topics.get(index % topics.size());
            byte[] key = keys ? names[index % names.length] : null;
            var record = new ProducerRecord<>(topic, key, values[index % values.length]);
            if (reports) {
                producer.send(record, (metadata, error) -> {
                    if (error != null) fail(error);
                    reported.incrementAndGet();
                });
            } else {
                producer.send(record);
            }
        }
    }

    private interface Work {
        void run(int count) throws Exception;
    }

    private void inThreads(int count, Work work) throws Exception {
        int threads = number("threads");
        List<Thread> running = new ArrayList<>();
        for (int index = 0; index < threads; index++) {
            Thread thread = new Thread(() -> {
                try {
                    work.run(count / threads);
                } catch (Exception error) {
                    fail(error);
                }
            });
            thread.start();
            running.add(thread);
        }
        for (Thread thread : running) thread.join();
    }

    private static void fail(Exception error) {
        error.printStackTrace();
        Runtime.getRuntime().halt(1);
    }

    private void timed(KafkaProducer<byte[], byte[]> producer, int count) throws Exception {
        List<Long> mine = new ArrayList<>(count);
        for (int index = 0; index < count; index++) {
            long started = System.nanoTime();
            producer.send(new ProducerRecord<>(topics.get(0), values[0])).get();
            mine.add(System.nanoTime() - started);
        }
        synchronized (latencies) {
            latencies.addAll(mine);
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(boolean inGroup) {
        Map<String, Object> settings = settings();
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", false);
        if (inGroup) settings.put("group.id", string("group"));
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private List<TopicPartition> partitions(KafkaConsumer<byte[], byte[]> consumer) {
        return topics.stream().flatMap(topic -> consumer.partitionsFor(topic).stream())
            .map(about -> new TopicPartition(about.topic(), about.partition())).collect(Collectors.toList());
    }

    private long[] consume(KafkaConsumer<byte[], byte[]> consumer, int count) {
        long messages = 0, bytes = 0;
        while (messages < count) {
            var records = consumer.poll(Duration.ofSeconds(10));
            if (records.isEmpty()) break;
            for (var record : records) {
                // A poll may return more than are still asked for: the topic may hold more.
                if (messages == count) break;
                messages++;
                bytes += record.value().length;
            }
        }
        return new long[] {messages, bytes};
    }

    private static double cpuSeconds() {
        var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime() / 1e9;
    }

    private void answer(long started, double before, long messages, long bytes) throws Exception {
        double seconds = (System.nanoTime() - started) / 1e9;
        System.out.printf(java.util.Locale.ROOT, "{\"seconds\": %.6f, \"messages\": %d, \"bytes\": %d, \"warm_up\": %d,"
            + " \"cpu_seconds_before\": %.6f, \"latencies_ns\": %s}%n", seconds, messages, bytes, warmUp, before, latencies);
        System.out.flush();
        System.in.readAllBytes();
        Runtime.getRuntime().halt(0);
    }

    private void run() throws Exception {
        int count = number("count"), size = number("size");
        switch (string("work")) {
            case "produce" -> {
                var producer = producer(true);
                warmUp = Math.min(1_000_000, 50_000_000L / size + 1000) / number("threads") * number("threads");
                inThreads((int) warmUp, some -> produce(producer, some));
                producer.flush();
                reported.set(0);
                double before = cpuSeconds();
                long started = System.nanoTime();
                inThreads(count, some -> produce(producer, some));
                producer.flush();
                if (is("reports") && reported.get() != count) fail(new Exception(reported + " reports"));
                answer(started, before, count, (long) count * size);
            }
            case "latency" -> {
                var producer = producer(false);
                warmUp = 20_000 / number("threads") * number("threads");
                inThreads((int) warmUp, some -> timed(producer, some));
                latencies.clear();
                timed(producer, 1);
                latencies.clear();
                double before = cpuSeconds();
                long started = System.nanoTime();
                inThreads(count, some -> timed(producer, some));
                answer(started, before, count + 1, (long) (count + 1) * size);
            }
            case "first" -> {
                double before = cpuSeconds();
                long started = System.nanoTime();
                producer(false).send(new ProducerRecord<>(topics.get(0), values[0])).get();
                answer(started, before, 1, size);
            }
            case "consume" -> {
                var consumer = consumer(false);
                var every = partitions(consumer);
                consumer.assign(every);
                consumer.seekToBeginning(every);
                consume(consumer, Math.min(count, 1_000_000));
                consumer.unsubscribe();
                double before = cpuSeconds();
                long started = System.nanoTime();
                consumer.assign(every);
                consumer.seekToBeginning(every);
                long[] read = consume(consumer, count);
                answer(started, before, read[0], read[1]);
            }
            case "group" -> {
                double before = cpuSeconds();
                long started = System.nanoTime();
                var consumer = consumer(true);
                consumer.subscribe(topics);
                long[] read = consume(consumer, 1);
                answer(started, before, read[0], read[1]);
            }
            default -> throw new IllegalArgumentException(string("work"));
        }
    }

    public static void main(String[] arguments) throws Exception {
        new Bench(arguments[0]).run();
    }
}
