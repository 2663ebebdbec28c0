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
const NO_CHOICE: &str = "the cryptography of this client is fixed, is not certified for FIPS, and has only cipher suites \
                         that have forward secrecy and authenticate the data: leave it out if that is good enough";
const NO_ASSERTIONS: &str = "the client does not make or send assertions: leave it out, and get tokens by \
                             sasl.oauthbearer.client.credentials.client.secret, by sasl.oauthbearer.token.file, or by \
                             a callback";
const OF_JAVA: &str = "it chooses parts of Java";
const OF_BROKERS: &str = "it is a setting of brokers";
const OF_TOKENS: &str = "it says how tokens are checked, and brokers do that";
const BUILT_IN: &str = "what Kafka's own classes do is built in";
const OF_KERBEROS: &str = "the system's Kerberos library gets and renews the tickets";

/// The classes that do what is done here without them.
const KAFKAS_CLASSES: &str = "org.apache.kafka.common.security.";

/// What becomes of `name` with this value.
pub(in crate::config) fn foreign(name: &str, value: &str) -> Option<Foreign> {
    use Foreign::{Refused, Unneeded};
    let value = value.trim();
    let is_kafkas = value.is_empty() || value.starts_with(KAFKAS_CLASSES);
    Some(match name {
        "ssl.truststore.password" => Unneeded("certificates in a PEM file need no password"),
        "ssl.keystore.password" => Unneeded("a PEM file has no password but that of its key, ssl.key.password"),
        "ssl.protocol" => Unneeded("ssl.enabled.protocols says which versions of TLS are used"),
        "ssl.cipher.suites" | "security.providers" | "ssl.provider" if value.is_empty() => Unneeded("it is empty"),
        "ssl.cipher.suites" | "security.providers" | "ssl.provider" => Refused(NO_CHOICE),
        "ssl.keymanager.algorithm" | "ssl.trustmanager.algorithm" | "ssl.secure.random.implementation" => {
            Unneeded(OF_JAVA)
        }
        "ssl.client.auth"
        | "ssl.principal.mapping.rules"
        | "ssl.allow.dn.changes"
        | "ssl.allow.san.changes"
        | "sasl.server.max.receive.size"
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
            Unneeded(BUILT_IN)
        }
        "ssl.engine.factory.class"
        | "sasl.login.callback.handler.class"
        | "sasl.login.class"
        | "sasl.client.callback.handler.class" => Refused(NO_CLASSES),
        "ssl.ca.pem" => Refused("write ssl.truststore.certificates"),
        "ssl.certificate.pem" => Refused("write ssl.keystore.certificate.chain"),
        "ssl.key.pem" => Refused("write ssl.keystore.key"),
        "sasl.mechanisms" => Refused("write sasl.mechanism"),
        _ => return name.strip_prefix("sasl.oauthbearer.").and_then(|name| of_tokens(name, value)),
    })
}

/// What becomes of `sasl.oauthbearer.` and `name` with this value.
fn of_tokens(name: &str, value: &str) -> Option<Foreign> {
    use Foreign::{Refused, Unneeded};
    let class = value.strip_prefix(KAFKAS_CLASSES).and_then(|class| class.strip_prefix("oauthbearer."));
    Some(match name {
        "client.id" => Refused("write sasl.oauthbearer.client.credentials.client.id"),
        "client.secret" => Refused("write sasl.oauthbearer.client.credentials.client.secret"),
        "jwt.retriever.class" => match class {
            Some("DefaultJwtRetriever" | "ClientCredentialsJwtRetriever") => Unneeded(BUILT_IN),
            Some("FileJwtRetriever") => Refused("write sasl.oauthbearer.token.file with the path of the token"),
            Some("JwtBearerJwtRetriever") => Refused(NO_ASSERTIONS),
            None if value.is_empty() => Unneeded(BUILT_IN),
            _ => Refused(NO_CLASSES),
        },
        "jwt.validator.class" if class.is_some() || value.is_empty() => Unneeded(OF_TOKENS),
        "jwt.validator.class" => Refused(NO_CLASSES),
        "header.urlencode" if value.eq_ignore_ascii_case("true") => {
            Refused("leave it out, and write the client's id and secret in URL encoding")
        }
        "header.urlencode" => Unneeded("the client's id and secret are sent as they are written"),
        "clock.skew.seconds" | "expected.audience" | "expected.issuer" | "scope.claim.name" | "sub.claim.name" => {
            Unneeded(OF_TOKENS)
        }
        _ if name.starts_with("jwks.endpoint.") => Unneeded(OF_TOKENS),
        _ if name.starts_with("assertion.") => Refused(NO_ASSERTIONS),
        _ => return None,
    })
}
