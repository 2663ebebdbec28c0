import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;

/**
 * Prints every message as encoded by Kafka's Java client: {@code NAME VERSION KIND HEX}.
 *
 * <p>Kind {@code full} has a value in every field: the n-th value of the message, in wire order, is n as a
 * number, or a text of n; arrays have two elements. Kind {@code null} is the empty message, with null where it may be.
 *
 * <p>{@code java -cp kafka-clients-VERSION.jar:slf4j-api.jar Golden.java API_KEY...}; golden.sh runs it.
 */
public final class Golden {
    private int count = 0;

    public static void main(String[] arguments) throws Exception {
        for (String key : arguments) {
            ApiMessageType type = ApiMessageType.fromApiKey(Short.parseShort(key));
            for (short v = type.lowestSupportedVersion(); v <= type.highestSupportedVersion(false); v++) {
                print(type.newRequest(), type.requestSchemas()[v], v);
                print(type.newResponse(), type.responseSchemas()[v], v);
            }
        }
    }

    private static void print(ApiMessage message, Schema schema, short version) throws Exception {
        String name = message.getClass().getSimpleName().replaceAll("Data$", "");
        setNulls(message, schema);
        System.out.println(name + " " + version + " null " + hex(message, version));
        new Golden().fill(message, schema);
        System.out.println(name + " " + version + " full " + hex(message, version));
    }

    private static String hex(ApiMessage message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        StringBuilder hex = new StringBuilder();
        for (byte b : buffer.array()) {
            hex.append(String.format("%02x", b));
        }
        return hex.toString();
    }

    private static void setNulls(Object object, Schema schema) throws Exception {
        for (BoundField field : schema.fields()) {
            if (!(field.def.type instanceof TaggedFields) && field.def.type.isNullable()) {
                setter(object, field.def.name).invoke(object, new Object[] {null});
            }
        }
    }

    private void fill(Object object, Schema schema) throws Exception {
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields) {
                for (Field value : tagged((TaggedFields) field.def.type).values()) {
                    set(object, value);
                }
            } else {
                set(object, field.def);
            }
        }
    }

    private void set(Object object, Field field) throws Exception {
        Method setter = setter(object, field.name);
        Class<?> type = setter.getParameterTypes()[0];
        if (field.type.isArray()) {
            setter.invoke(object, array(setter, type, field.type.arrayElementType().get()));
        } else {
            setter.invoke(object, value(type, field.type));
        }
    }

    private Object array(Method setter, Class<?> type, Type element) throws Exception {
        boolean isList = type.equals(java.util.List.class);
        @SuppressWarnings("unchecked")
        Collection<Object> all =
            isList ? new ArrayList<>() : (Collection<Object>) type.getDeclaredConstructor().newInstance();
        java.lang.reflect.Type generic =
            isList ? setter.getGenericParameterTypes()[0] : type.getGenericSuperclass();
        Class<?> elementClass = (Class<?>) ((ParameterizedType) generic).getActualTypeArguments()[0];
        for (int i = 0; i < 2; i++) {
            all.add(value(elementClass, element));
        }
        return all;
    }

    private Object value(Class<?> type, Type schema) throws Exception {
        if (schema instanceof Schema) {
            Object object = type.getDeclaredConstructor().newInstance();
            fill(object, (Schema) schema);
            return object;
        }
        int n = ++count;
        byte[] text = ("v" + n).getBytes();
        switch (type.getSimpleName()) {
            case "boolean": return true;
            case "byte": case "Byte": return (byte) n;
            case "short": case "Short": return (short) n;
            case "int": case "Integer": return n;
            case "long": case "Long": return (long) n;
            case "String": return new String(text);
            case "Uuid": return new Uuid(n, n);
            case "byte[]": return text;
            case "ByteBuffer": return ByteBuffer.wrap(text);
            case "BaseRecords": return records(text);
            default: throw new IllegalStateException("no value for " + type);
        }
    }

    /** The tagged fields by tag; 3.9 keeps them private. */
    @SuppressWarnings("unchecked")
    private static Map<Integer, Field> tagged(TaggedFields all) throws Exception {
        java.lang.reflect.Field fields = TaggedFields.class.getDeclaredField("fields");
        fields.setAccessible(true);
        return new TreeMap<>((Map<Integer, Field>) fields.get(all));
    }

    /** Records of any bytes; 4.4 moved the class. */
    private static Object records(byte[] bytes) throws Exception {
        Class<?> records;
        try {
            records = Class.forName("org.apache.kafka.common.record.MemoryRecords");
        } catch (ClassNotFoundException e) {
            records = Class.forName("org.apache.kafka.common.record.internal.MemoryRecords");
        }
        return records.getMethod("readableRecords", ByteBuffer.class).invoke(null, ByteBuffer.wrap(bytes));
    }

    private static Method setter(Object object, String snakeCaseName) {
        String name = "set" + snakeCaseName.replace("_", "");
        for (Method method : object.getClass().getMethods()) {
            if (method.getName().equalsIgnoreCase(name) && method.getParameterCount() == 1) {
                return method;
            }
        }
        throw new IllegalStateException("no " + name + " in " + object.getClass());
    }
}
