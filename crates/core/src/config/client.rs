//! The settings of a client: the addresses of its cluster, and its limits.

use std::time::Duration;

use super::security::{
    EndpointIdentification, EndpointUrl, FilePath, SaslMechanism, Security, SecurityProtocol, TlsVersion, security_of,
};
use super::servers::parse_bootstrap_servers;
use super::setting::{INT, LONG, refuse, settings};
use crate::error::Result;
use crate::secret::Secret;

settings! {
    /// The settings of a client.
    ClientConfig {
        /// The first brokers to ask, as `(host, port)` pairs; they name the rest of the cluster.
        #[setting(kafka = "bootstrap.servers", pykafka = "hosts")]
        bootstrap_servers: Vec<(String, u16)> = ("127.0.0.1", 9092);

        /// The name of this program in the brokers' logs and quotas; at most 32,767 bytes, without control characters.
        #[setting(kafka = "client.id")]
        client_id: String = "kavka";

        /// How long one request may take, including its wait at the broker.
        #[setting(kafka = "request.timeout.ms", pykafka = "socket_timeout_ms", range = 1..=LONG)]
        request_timeout: Duration = 30_000;

        /// How long resolving, connecting and the handshake may take together. In PyKafka this is at most 10 s.
        #[setting(kafka = "socket.connection.setup.timeout.ms", pykafka = "socket_timeout_ms", pykafka_default = "30000", range = 1..=LONG)]
        connection_setup_timeout: Duration = 10_000;

        /// The wait before a failed request is retried; doubles with each failure in a row.
        #[setting(kafka = "retry.backoff.ms", range = 1..=LONG)]
        retry_backoff: Duration = 100;

        /// The longest wait before a failed request is retried.
        #[setting(kafka = "retry.backoff.max.ms", range = 1..=LONG)]
        retry_backoff_max: Duration = 1_000;

        /// The wait before an unreachable broker is dialled again; doubles with each failure in a row. Kafka's default
        /// is 50.
        #[setting(kafka = "reconnect.backoff.ms", range = 1..=LONG)]
        reconnect_backoff: Duration = 100;

        /// The longest wait before an unreachable broker is dialled again.
        #[setting(kafka = "reconnect.backoff.max.ms", range = 1..=LONG)]
        reconnect_backoff_max: Duration = 1_000;

        /// How long a connection may be idle before the client closes it. Brokers close theirs after ten minutes.
        #[setting(kafka = "connections.max.idle.ms", range = 1..=LONG)]
        connections_max_idle: Duration = 540_000;

        /// How old metadata may get before it is refreshed without another reason.
        #[setting(kafka = "metadata.max.age.ms", range = 1..=LONG)]
        metadata_max_age: Duration = 300_000;

        /// The local IP address to connect from; if empty, the system chooses.
        #[setting(ours = "source.address", pykafka = "source_address")]
        source_address: String = "";

        /// The longest response, in bytes; a longer one is refused before it is read.
        #[setting(ours = "max.response.bytes", pykafka = "max_response_bytes", range = 1..=INT)]
        max_response_bytes: usize = 100_000_000;

        /// How many bytes all producers of the client together may buffer.
        #[setting(kafka = "buffer.memory", pykafka = "buffer_memory", range = 65_536..=LONG)]
        buffer_memory: usize = 33_554_432;

        /// How long a call waits for metadata, or for room in the buffer.
        #[setting(kafka = "max.block.ms", pykafka = "max_block_ms", range = 0..=LONG)]
        max_block: Duration = 60_000;

        /// Whether connections use TLS, and whether the client authenticates itself by SASL.
        #[setting(kafka = "security.protocol", pykafka = "ssl_config", pykafka_default = "none")]
        security_protocol: SecurityProtocol = SecurityProtocol::Plaintext;

        /// A PEM file with the authorities that sign the brokers' certificates. Without one, those count that the
        /// operating system trusts.
        #[setting(kafka = "ssl.truststore.location", pykafka = "SslConfig(cafile)")]
        ssl_truststore_location: Option<FilePath> = None;

        /// The same as a text in PEM format (KIP-651).
        #[setting(kafka = "ssl.truststore.certificates", pykafka = "SslConfig(ca_pem)")]
        ssl_truststore_certificates: Option<String> = None;

        /// The format of `ssl.truststore.location`. Only PEM is supported; Kafka's default is `JKS`.
        #[setting(kafka = "ssl.truststore.type")]
        ssl_truststore_type: String = "PEM";

        /// The same as `ssl.truststore.location`, by librdkafka's name.
        #[setting(ours = "ssl.ca.location", pykafka = "SslConfig(cafile)")]
        ssl_ca_location: Option<FilePath> = None;

        /// A PEM file with the client's certificate, those that lead to the authority, and the private key.
        #[setting(kafka = "ssl.keystore.location", pykafka = "SslConfig(certfile)")]
        ssl_keystore_location: Option<FilePath> = None;

        /// The client's certificate and those that lead to the authority, as a text in PEM format (KIP-651). It is not
        /// shown, because people also paste the private key into it.
        #[setting(kafka = "ssl.keystore.certificate.chain", pykafka = "SslConfig(cert_pem)")]
        ssl_keystore_certificate_chain: Option<Secret> = None;

        /// The private key as a text in PEM format (KIP-651).
        #[setting(kafka = "ssl.keystore.key", pykafka = "SslConfig(key_pem)")]
        ssl_keystore_key: Option<Secret> = None;

        /// The format of `ssl.keystore.location`. Only PEM is supported; Kafka's default is `JKS`.
        #[setting(kafka = "ssl.keystore.type")]
        ssl_keystore_type: String = "PEM";

        /// A PEM file with the client's certificate and those that lead to the authority, by librdkafka's name.
        #[setting(ours = "ssl.certificate.location", pykafka = "SslConfig(certfile)")]
        ssl_certificate_location: Option<FilePath> = None;

        /// A PEM file with the private key for `ssl.certificate.location`, by librdkafka's name.
        #[setting(ours = "ssl.key.location", pykafka = "SslConfig(keyfile)")]
        ssl_key_location: Option<FilePath> = None;

        /// Decrypts the private key.
        #[setting(kafka = "ssl.key.password", pykafka = "SslConfig(password)")]
        ssl_key_password: Option<Secret> = None;

        /// Whether a broker's certificate must be for the host that was dialled (`https`) or may be for any (empty, or
        /// `none`). If it may be for any, everybody with a certificate of a trusted authority can pass for a broker.
        #[setting(kafka = "ssl.endpoint.identification.algorithm", pykafka = "SslConfig(check_hostname)", pykafka_default = "true")]
        ssl_endpoint_identification_algorithm: EndpointIdentification = EndpointIdentification::Https;

        /// The versions of TLS. The oldest one counts: newer ones are always allowed.
        #[setting(kafka = "ssl.enabled.protocols", pykafka = "SslConfig(minimum_version)", pykafka_default = "TLSv1.2")]
        ssl_enabled_protocols: TlsVersion = TlsVersion::V1_2;

        /// Accepts every certificate, so that everybody on the network can pass for a broker and read the client's
        /// credentials. Only for experiments.
        #[setting(ours = "ssl.insecure.accept.any.certificate", pykafka = "SslConfig(insecure_accept_any_certificate)")]
        ssl_insecure_accept_any_certificate: bool = false;

        /// How the client proves who it is. Kafka's default is `GSSAPI`.
        #[setting(kafka = "sasl.mechanism", pykafka = "sasl")]
        sasl_mechanism: Option<SaslMechanism> = None;

        /// The username of PLAIN and SCRAM, by librdkafka's name. Kafka has it in `sasl.jaas.config`.
        #[setting(ours = "sasl.username", pykafka = "Scram(username)")]
        sasl_username: Option<String> = None;

        /// The password of PLAIN and SCRAM, by librdkafka's name. Kafka has it in `sasl.jaas.config`.
        #[setting(ours = "sasl.password", pykafka = "Scram(password)")]
        sasl_password: Option<Secret> = None;

        /// The credentials in Kafka's own form, for every mechanism; for GSSAPI only a line that asks for a ticket:
        /// `org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="b";`. The class
        /// only says which options follow; nothing is loaded.
        #[setting(kafka = "sasl.jaas.config")]
        sasl_jaas_config: Option<Secret> = None;

        /// The `https` URL of the identity provider that issues tokens for OAUTHBEARER, to `...client.id` with
        /// `...client.secret` (KIP-768).
        #[setting(kafka = "sasl.oauthbearer.token.endpoint.url", pykafka = "OAuthBearer(token_endpoint_url)")]
        sasl_oauthbearer_token_endpoint_url: Option<EndpointUrl> = None;

        /// The client's id at the identity provider (KIP-1139).
        #[setting(kafka = "sasl.oauthbearer.client.credentials.client.id", pykafka = "OAuthBearer(client_id)")]
        sasl_oauthbearer_client_id: Option<String> = None;

        /// The client's secret at the identity provider (KIP-1139).
        #[setting(kafka = "sasl.oauthbearer.client.credentials.client.secret", pykafka = "OAuthBearer(client_secret)")]
        sasl_oauthbearer_client_secret: Option<Secret> = None;

        /// The scope to ask the identity provider for (KIP-1139).
        #[setting(kafka = "sasl.oauthbearer.scope", pykafka = "OAuthBearer(scope)")]
        sasl_oauthbearer_scope: Option<String> = None;

        /// SASL extensions that go to the brokers with each token of the token endpoint, as `name=value,name=value`, by
        /// librdkafka's name (KIP-342). Kafka has them in `sasl.jaas.config`, as `extension_NAME`.
        #[setting(ours = "sasl.oauthbearer.extensions", pykafka = "OAuthBearer(extensions)")]
        sasl_oauthbearer_extensions: Option<String> = None;

        /// A PEM file with the authorities that sign the certificate of the token endpoint, by librdkafka's name.
        /// Without one, those count that the operating system trusts; those for the brokers do not. Kafka has it in
        /// `sasl.jaas.config`, as `ssl.truststore.location`.
        #[setting(ours = "https.ca.location", pykafka = "OAuthBearer(cafile)")]
        https_ca_location: Option<FilePath> = None;

        /// A file with the token for OAUTHBEARER, as Kubernetes writes it. It is read again before the token expires.
        #[setting(ours = "sasl.oauthbearer.token.file", pykafka = "OAuthBearer(token_file)")]
        sasl_oauthbearer_token_file: Option<FilePath> = None;

        /// The first part of the brokers' Kerberos principals.
        #[setting(kafka = "sasl.kerberos.service.name", pykafka = "Gssapi(service_name)")]
        sasl_kerberos_service_name: String = "kafka";
    }
    and {
        /// What [`with_security`](Self::with_security) set, in place of the rows.
        security: Option<Security>;
    }
}

impl ClientConfig {
    /// The default settings, with these servers: one or more `host:port`, separated by commas.
    ///
    /// # Errors
    ///
    /// Those of [`parse_bootstrap_servers`].
    pub fn new(bootstrap_servers: &str) -> Result<Self> {
        Ok(Self::default().bootstrap_servers(parse_bootstrap_servers(bootstrap_servers)?))
    }

    /// Sets TLS and SASL, in place of the settings `security.protocol`, `ssl.*` and `sasl.*`.
    ///
    /// ```
    /// use kavka_core::config::{ClientConfig, Login, Sasl, ScramHash, Security, Tls};
    /// use kavka_core::secret::Secret;
    ///
    /// # fn main() -> kavka_core::error::Result<()> {
    /// let login = Login::new("billing", Secret::new("a password"));
    /// let tls = Tls::with_ca_file("/etc/kafka/ca.pem");
    /// let security = Security::tls(tls).sasl(Sasl::Scram(ScramHash::Sha512, login));
    /// let config = ClientConfig::new("kafka-1:9093")?.with_security(security);
    /// # config.validate()
    /// # }
    /// ```
    #[must_use]
    pub fn with_security(mut self, security: Security) -> Self {
        self.security = Some(security);
        self
    }

    /// TLS and SASL: what [`with_security`](Self::with_security) set, or what the settings say.
    ///
    /// # Errors
    ///
    /// `Config`, with the setting and what to do, if settings contradict each other or something is missing.
    pub fn security(&self) -> Result<Security> {
        security_of(self, self.security.as_ref())
    }

    fn check_conflicts(&self) -> Result<()> {
        self.security()?;
        if self.bootstrap_servers.is_empty() {
            return Err(refuse("bootstrap.servers", "empty", "at least one host:port"));
        }
        if self.client_id.len() > i16::MAX as usize || self.client_id.contains(char::is_control) {
            let shown = crate::error::printable(&self.client_id);
            return Err(refuse("client.id", shown, "at most 32,767 bytes without control characters"));
        }
        if !self.source_address.is_empty() && self.source_address.parse::<core::net::IpAddr>().is_err() {
            let shown = crate::error::printable(&self.source_address);
            return Err(refuse("source.address", shown, "an IP address of this machine, without a port"));
        }
        for (setting, least, bound, most) in [
            ("retry.backoff.ms", self.retry_backoff, "retry.backoff.max.ms", self.retry_backoff_max),
            ("reconnect.backoff.ms", self.reconnect_backoff, "reconnect.backoff.max.ms", self.reconnect_backoff_max),
        ] {
            if least > most {
                return Err(refuse(setting, format!("{least:?}"), format!("at most {bound} ({most:?})")));
            }
        }
        Ok(())
    }
}
