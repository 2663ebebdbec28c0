import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.StringJoiner;
import java.util.TreeMap;
import java.util.function.Supplier;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.GroupSubscription;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

/**
 * Assigns partitions with the assignors of Java's consumer. Reads one case per line:
 * {@code assignor topic=racks/racks,... member|instance|subscription ...} where there is one {@code racks} for each
 * partition, those of its replicas with + between them, and the subscription is what the member would send, in
 * hexadecimal. Writes one line per case: {@code member:topic-number,... ...}, in order.
 *
 * With a number as its argument, it assigns each case so many times, and writes how long the first time and the
 * shortest one took, in microseconds.
 */
public class Assignors {
    private static final Map<String, Supplier<ConsumerPartitionAssignor>> ASSIGNORS = Map.of(
            "range", RangeAssignor::new,
            "roundrobin", RoundRobinAssignor::new,
            "sticky", StickyAssignor::new,
            "cooperative-sticky", CooperativeStickyAssignor::new);

    public static void main(String[] arguments) throws Exception {
        // The assignors would log to stdout if they found a logger, and mix that with the answers.
        PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        System.setOut(System.err);
        BufferedReader cases = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = cases.readLine(); line != null; line = cases.readLine()) {
            Case wanted = new Case(line.split(" "));
            answers.println(arguments.length == 0 ? wanted.answer() : wanted.time(Integer.parseInt(arguments[0])));
        }
        answers.flush();
    }

    /** A group whose partitions are to be assigned. */
    private static class Case {
        private final Cluster cluster;
        private final Map<String, Subscription> subscriptions = new HashMap<>();
        private final Supplier<ConsumerPartitionAssignor> assignor;

        Case(String[] words) {
            assignor = ASSIGNORS.get(words[0]);
            List<PartitionInfo> partitions = new ArrayList<>();
            for (String topic : words[1].split(",")) {
                String[] name = topic.split("=");
                String[] racks = name[1].split("/");
                for (int number = 0; number < racks.length; number++) {
                    List<Node> nodes = new ArrayList<>();
                    for (String rack : racks[number].split("\\+")) {
                        nodes.add(new Node(nodes.size(), "host", 9092, rack.equals("-") ? null : rack));
                    }
                    Node[] replicas = nodes.toArray(new Node[0]);
                    partitions.add(new PartitionInfo(name[0], number, null, replicas, replicas));
                }
            }
            cluster = new Cluster("cluster", List.of(), partitions, Set.of(), Set.of());
            // Like the consumer, fills a hash map in the order in which the coordinator lists the members.
            for (int index = 2; index < words.length; index++) {
                String[] member = words[index].split("\\|");
                ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(member[2]));
                Subscription subscription = ConsumerProtocol.deserializeSubscription(bytes);
                subscription.setGroupInstanceId(member[1].equals("-") ? Optional.empty() : Optional.of(member[1]));
                subscriptions.put(member[0], subscription);
            }
        }

        private Map<String, Assignment> assign() {
            return assignor.get().assign(cluster, new GroupSubscription(subscriptions)).groupAssignment();
        }

        String answer() {
            try {
                return told(assign());
            } catch (RuntimeException exception) {
                return exception.toString();
            }
        }

        String time(int rounds) {
            long first = 0;
            long shortest = Long.MAX_VALUE;
            for (int round = 0; round < rounds; round++) {
                long begin = System.nanoTime();
                assign();
                long taken = (System.nanoTime() - begin) / 1_000;
                first = round == 0 ? taken : first;
                shortest = Math.min(shortest, taken);
            }
            return first + " " + shortest;
        }
    }

    private static String told(Map<String, Assignment> shares) {
        StringJoiner told = new StringJoiner(" ");
        new TreeMap<>(shares).forEach((member, share) -> {
            List<TopicPartition> partitions = new ArrayList<>(share.partitions());
            partitions.sort(Comparator.comparing(TopicPartition::topic).thenComparing(TopicPartition::partition));
            StringJoiner list = new StringJoiner(",");
            partitions.forEach(partition -> list.add(partition.toString()));
            told.add(member + ":" + list);
        });
        return told.toString();
    }
}
