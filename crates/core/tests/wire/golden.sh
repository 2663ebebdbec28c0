#!/bin/sh
# Writes golden.txt beside this script: every message as the Java clients of 3.9.2 and 4.4.0 encode it, for the APIs
# of crates/core/src/wire/api.rs; and error_codes.txt: what the client of 4.4.0 does about each error code. Needs Java, Maven and the network; run it when an API or a version is added.
set -eu
cd "$(dirname "$0")"
jars=$(mktemp -d)
trap 'rm -rf "$jars"' EXIT
keys=$(sed -n 's/^    \([0-9][0-9]*\) [A-Z].*Request,$/\1/p' ../../src/wire/api.rs)
for artifact in org.apache.kafka:kafka-clients:3.9.2 org.apache.kafka:kafka-clients:4.4.0 org.slf4j:slf4j-api:1.7.36; do
    mvn -q -B dependency:copy -Dartifact="$artifact" -DoutputDirectory="$jars"
done
{
    echo "# Made by golden.sh with kafka-clients 3.9.2 and 4.4.0; Golden.java says what the lines are."
    for version in 3.9.2 4.4.0; do
        # shellcheck disable=SC2086
        java -cp "$jars/kafka-clients-$version.jar:$jars/slf4j-api-1.7.36.jar" Golden.java $keys 2>/dev/null
    done | LC_ALL=C sort -u -k1,1 -k2,2n -k3,3 -k4,4
} > golden.txt.new
mv golden.txt.new golden.txt
{
    echo "# Made by golden.sh with kafka-clients 4.4.0; ErrorCodes.java says what the lines are."
    java -cp "$jars/kafka-clients-4.4.0.jar:$jars/slf4j-api-1.7.36.jar" ErrorCodes.java 2>/dev/null
} > error_codes.txt.new
mv error_codes.txt.new error_codes.txt
