"""What tests may rely on when they use the secure listeners of `tests/kafka`, seen by other clients."""

import re
import subprocess
import uuid

import pytest
import tokens
from confluent_kafka import Producer

pytestmark = pytest.mark.parametrize("secure_kafka", ["LATEST"], indirect=True)
PASSWORDS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def tls(cluster):
    return {"security.protocol": "ssl", "ssl.ca.location": cluster.security["ca"]}


def sasl(cluster, listener, mechanism, password=None):
    settings = {"security.protocol": "sasl_plaintext", "sasl.mechanism": mechanism}
    if listener != "SASL_PLAINTEXT":
        settings |= tls(cluster) | {"security.protocol": "sasl_ssl"}
    return settings | {
        "sasl.username": cluster.security["user"],
        "sasl.password": password or cluster.security["password"],
    }


def with_tokens(settings, token):
    settings = {name: value for name, value in settings.items() if not name.startswith(("sasl.user", "sasl.pass"))}
    return settings | {"oauth_cb": lambda _: (token, 4e9)}


def write(cluster, listener, settings, broken=()):
    """Writes a message, and returns why not if the client says one of the `broken` codes first."""
    reasons = []

    def note(error):
        if error.name() in broken:
            reasons.append(error.str())

    settings = settings | {"bootstrap.servers": cluster.secure_listeners[listener], "error_cb": note, "log_level": 0}
    producer = Producer(settings)
    topic = f"secure-{uuid.uuid4()}"
    if broken:
        while not reasons:
            producer.poll(0.1)
        return reasons[0]
    cluster.create_topic(topic)
    reports = []
    producer.produce(topic, b"secret", on_delivery=lambda error, message: reports.append((error, message.value())))
    assert producer.flush(60) == 0
    assert reports == [(None, b"secret")]
    return None


def test_a_listener_with_tls_has_a_certificate_of_the_harness_s_authority(secure_kafka):
    write(secure_kafka, "SSL", tls(secure_kafka))


def test_a_listener_with_client_certificates_wants_one(secure_kafka):
    security = secure_kafka.security
    certificate = {"ssl.certificate.location": security["certificate"], "ssl.key.location": security["encrypted_key"]}
    write(secure_kafka, "MTLS", tls(secure_kafka) | certificate | {"ssl.key.password": security["key_password"]})
    assert write(secure_kafka, "MTLS", tls(secure_kafka), broken=["_SSL", "_TRANSPORT"])


@pytest.mark.parametrize("mechanism", PASSWORDS)
@pytest.mark.parametrize("listener", ["SASL_PLAINTEXT", "SASL_SSL", "REAUTH"])
def test_a_listener_with_sasl_wants_the_password(secure_kafka, listener, mechanism):
    write(secure_kafka, listener, sasl(secure_kafka, listener, mechanism))
    write(secure_kafka, listener, sasl(secure_kafka, listener, mechanism, "wrong"), broken=["_AUTHENTICATION"])


@pytest.mark.parametrize("listener", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_listener_with_oauthbearer_wants_a_token(secure_kafka, listener):
    settings = sasl(secure_kafka, listener, "OAUTHBEARER")
    write(secure_kafka, listener, with_tokens(settings, tokens.unsecured("alice")))
    write(secure_kafka, listener, with_tokens(settings, tokens.unsecured("alice", -60)), broken=["_AUTHENTICATION"])


def test_the_listener_oidc_wants_a_signed_token(secure_kafka):
    settings = sasl(secure_kafka, "OIDC", "OAUTHBEARER")
    with tokens.Endpoint(secure_kafka.security) as endpoint:
        oidc = {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": endpoint.url,
            "sasl.oauthbearer.client.id": endpoint.client_id,
            "sasl.oauthbearer.client.secret": endpoint.client_secret,
            "https.ca.location": secure_kafka.security["ca"],
        }
        write(secure_kafka, "OIDC", settings | oidc)
        assert endpoint.requests == 1
    write(secure_kafka, "OIDC", with_tokens(settings, tokens.unsecured("alice")), broken=["_AUTHENTICATION"])


def test_a_listener_with_gssapi_takes_a_ticket(secure_kafka, tmp_path):
    security = secure_kafka.security
    login = "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true"
    kerberos = security["kerberos"]
    properties = tmp_path / "client.properties"
    properties.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=GSSAPI\nsasl.kerberos.service.name=kafka\n"
        f"ssl.truststore.type=PEM\nssl.truststore.location={security['ca']}\n"
        f'sasl.jaas.config={login} keyTab="{kerberos["keytab"]}" principal="{kerberos["principal"]}";\n'
    )
    java, *rest = secure_kafka.tool_command("topics")
    rest = [secure_kafka.secure_listeners["SASL_SSL"] if re.match(r"127\.0\.0\.1:", word) else word for word in rest]
    config = f"-Djava.security.krb5.conf={kerberos['environment']['KRB5_CONFIG']}"
    secure_kafka.create_topic("with-a-ticket")
    done = subprocess.run(
        [java, config, *rest, "--command-config", properties, "--list"], capture_output=True, text=True, timeout=120
    )
    assert "with-a-ticket" in done.stdout, done.stderr


def test_a_new_password_replaces_the_old_one(secure_kafka):
    user = f"user-{uuid.uuid4()}"
    for password in ("first", "second"):
        secure_kafka.set_scram_password(user, password)
        settings = sasl(secure_kafka, "SASL_SSL", "SCRAM-SHA-512", password) | {"sasl.username": user}
        write(secure_kafka, "SASL_SSL", settings)
    write(secure_kafka, "SASL_SSL", settings | {"sasl.password": "first"}, broken=["_AUTHENTICATION"])
