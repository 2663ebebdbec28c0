import org.apache.kafka.common.errors.InvalidMetadataException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;

/** Prints every error code that Kafka's Java client knows, and what it does about it: {@code CODE NAME THEN}. */
public final class ErrorCodes {
    public static void main(String[] arguments) {
        for (Errors error : Errors.values()) {
            boolean refreshes = error.exception() instanceof InvalidMetadataException;
            boolean retries = error.exception() instanceof RetriableException;
            System.out.println(error.code() + " " + error + " " + (refreshes ? "refresh" : retries ? "retry" : "fail"));
        }
    }
}
