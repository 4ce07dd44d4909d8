package subscriber;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.GsonBuilder;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Follows the public topic job_runs with a plain Kafka client and keeps the read model of job runs.
 *
 * <pre>
 *   mvn -q compile exec:java                               from the start, for ever; tells each change
 *   mvn -q compile exec:java -Dexec.args=--until-end       up to the present end, then prints the model as JSON
 * </pre>
 *
 * <p>TOWPATH_KAFKA (localhost:9092) and TOWPATH_TOPIC_PREFIX (towpath) say where. The model is in memory; keep model and
 * offsets together, in one transaction, and what is delivered again is dropped by its number.
 */
public final class Subscriber {
  public static void main(String[] arguments) throws Exception {
    boolean untilEnd = List.of(arguments).contains("--until-end");
    String topic = setting("TOWPATH_TOPIC_PREFIX", "towpath") + ".job_runs.g1";
    Map<String, Object> settings = Map.of(
        "bootstrap.servers", setting("TOWPATH_KAFKA", "localhost:9092"),
        "enable.auto.commit", "false",
        "isolation.level", "read_committed");
    JobRuns model = new JobRuns();
    try (KafkaConsumer<String, byte[]> consumer =
        new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
      List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
          .map(info -> new TopicPartition(topic, info.partition()))
          .toList();
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
      while (!untilEnd || partitions.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
        for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(500))) {
          if (model.take(record.key(), headers(record), record.value()) && !untilEnd) {
            Map<String, Object> run = model.runs.get(record.key());
            System.out.println(run.get("updatedAt") + " " + record.key() + " " + run.get("status"));
          }
        }
      }
    }
    Map<String, Object> shown = Map.of("runs", model.runs, "repeated", model.repeated);
    System.out.println(new GsonBuilder().serializeNulls().create().toJson(shown));
  }

  private static Map<String, String> headers(ConsumerRecord<String, byte[]> record) {
    Map<String, String> found = new HashMap<>();
    record.headers().forEach(header -> found.put(header.key(), new String(header.value(), UTF_8)));
    return found;
  }

  private static String setting(String name, String otherwise) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? otherwise : value;
  }
}
