//! Names that Java's client and librdkafka have for TLS and SASL, and that are no settings here.
//!
//! Such names stand in the files of most clusters. Where the client works as well without one, it is not needed, and
//! the user is told so; otherwise it is refused, with what to write instead.

/// What becomes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Foreign {
    /// It may stand there, for this reason.
    Unneeded(&'static str),
    /// It may not; this is what to write.
    Refused(&'static str),
}

const NO_CLASSES: &str = "it names a Java class, and none is loaded: leave it out, and give certificates by \
                          ssl.truststore.location and ssl.keystore.location, and tokens by \
                          sasl.oauthbearer.token.endpoint.url, by sasl.oauthbearer.token.file, or by a callback";
const OF_JAVA: &str = "it chooses parts of Java";
const OF_BROKERS: &str = "it is a setting of brokers";
const OF_KERBEROS: &str = "the system's Kerberos library gets and renews the tickets";

/// The classes that do what is done here without them.
const KAFKAS_CLASSES: &str = "org.apache.kafka.common.security.";

/// What becomes of `name` with this value.
pub(in crate::config) fn foreign(name: &str, value: &str) -> Option<Foreign> {
    use Foreign::{Refused, Unneeded};
    let is_kafkas = value.trim().is_empty() || value.trim().starts_with(KAFKAS_CLASSES);
    Some(match name {
        "ssl.truststore.password" => Unneeded("certificates in a PEM file need no password"),
        "ssl.keystore.password" => Unneeded("a PEM file has no password but that of its key, ssl.key.password"),
        "ssl.protocol" => Unneeded("ssl.enabled.protocols says which versions of TLS are used"),
        "ssl.cipher.suites" => {
            Unneeded("all cipher suites of this client have forward secrecy and authenticate the data")
        }
        "security.providers"
        | "ssl.provider"
        | "ssl.keymanager.algorithm"
        | "ssl.trustmanager.algorithm"
        | "ssl.secure.random.implementation" => Unneeded(OF_JAVA),
        "ssl.client.auth"
        | "ssl.principal.mapping.rules"
        | "sasl.enabled.mechanisms"
        | "sasl.mechanism.inter.broker.protocol"
        | "sasl.server.callback.handler.class"
        | "security.inter.broker.protocol"
        | "sasl.kerberos.principal.to.local.rules" => Unneeded(OF_BROKERS),
        "sasl.login.refresh.window.factor"
        | "sasl.login.refresh.window.jitter"
        | "sasl.login.refresh.min.period.seconds"
        | "sasl.login.refresh.buffer.seconds" => Unneeded("a token is replaced when 80 % of its life have passed"),
        "sasl.login.connect.timeout.ms"
        | "sasl.login.read.timeout.ms"
        | "sasl.login.retry.backoff.ms"
        | "sasl.login.retry.backoff.max.ms" => {
            Unneeded("socket.connection.setup.timeout.ms limits how long a token endpoint may take")
        }
        "sasl.kerberos.kinit.cmd"
        | "sasl.kerberos.min.time.before.relogin"
        | "sasl.kerberos.ticket.renew.jitter"
        | "sasl.kerberos.ticket.renew.window.factor" => Unneeded(OF_KERBEROS),
        "sasl.kerberos.keytab" | "sasl.kerberos.principal" => {
            Refused("set the variable KRB5_CLIENT_KTNAME to the path of the keytab, or get a ticket with kinit")
        }
        "sasl.login.callback.handler.class" | "sasl.login.class" | "sasl.client.callback.handler.class"
            if is_kafkas =>
        {
            Unneeded("what Kafka's own classes do is built in")
        }
        "ssl.engine.factory.class"
        | "sasl.login.callback.handler.class"
        | "sasl.login.class"
        | "sasl.client.callback.handler.class" => Refused(NO_CLASSES),
        "ssl.ca.pem" => Refused("write ssl.truststore.certificates"),
        "ssl.certificate.pem" => Refused("write ssl.keystore.certificate.chain"),
        "ssl.key.pem" => Refused("write ssl.keystore.key"),
        "sasl.mechanisms" => Refused("write sasl.mechanism"),
        "sasl.oauthbearer.client.id" => Refused("write sasl.oauthbearer.client.credentials.client.id"),
        "sasl.oauthbearer.client.secret" => Refused("write sasl.oauthbearer.client.credentials.client.secret"),
        _ => return None,
    })
}
