import org.apache.kafka.common.errors.InvalidMetadataException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;

/** Prints all error codes of Kafka's Java client, and how it reacts to each: {@code CODE NAME THEN}. */
public final class ErrorCodes {
    public static void main(String[] arguments) {
        for (Errors error : Errors.values()) {
            boolean refreshes = error.exception() instanceof InvalidMetadataException;
            boolean retries = error.exception() instanceof RetriableException;
            System.out.println(error.code() + " " + error + " " + (refreshes ? "refresh" : retries ? "retry" : "fail"));
        }
    }
}
