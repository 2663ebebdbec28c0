//! Reads [`Security`] from the rows of [`ClientConfig`], and refuses rows that contradict each other.

use std::path::Path;

use super::{
    EndpointIdentification, FilePath, Identity, Login, Sasl, SaslMechanism, ScramHash, Security, StoreFormat, Tls,
    TokenSource, Trust, jaas,
};
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind, Hint, Result, printable};

/// What the program set, or what the rows say.
pub(in crate::config) fn security_of(config: &ClientConfig, set: Option<&Security>) -> Result<Security> {
    let mut changed = config.changed().filter(|name| is_security(name));
    if let Some(security) = set {
        if let Some(name) = changed.next() {
            let hint = "leave one of the two out";
            return Err(conflict(format!("{name} is set, and the program sets TLS and SASL without it"), hint));
        }
        security.check()?;
        return Ok(security.clone());
    }
    let protocol = config.security_protocol;
    for (name, path) in [
        ("ssl.truststore.location", &config.ssl_truststore_location),
        ("ssl.ca.location", &config.ssl_ca_location),
        ("ssl.keystore.location", &config.ssl_keystore_location),
        ("ssl.certificate.location", &config.ssl_certificate_location),
        ("ssl.key.location", &config.ssl_key_location),
        ("sasl.oauthbearer.token.file", &config.sasl_oauthbearer_token_file),
        ("https.ca.location", &config.https_ca_location),
    ] {
        path.as_ref().map_or(Ok(()), |path| path.check(name))?;
    }
    for name in changed {
        if name.starts_with("ssl.") && !protocol.has_tls() {
            let hint = "for TLS, set security.protocol to SSL or SASL_SSL";
            return Err(conflict(format!("{name} is set, but security.protocol does not use TLS"), hint));
        }
        if is_of_sasl(name) && !protocol.has_sasl() {
            let hint = "for SASL, set security.protocol to SASL_SSL (or to SASL_PLAINTEXT, without encryption)";
            return Err(conflict(format!("{name} is set, but security.protocol does not use SASL"), hint));
        }
    }
    let tls = if protocol.has_tls() { Some(tls(config)?) } else { None };
    let sasl = if protocol.has_sasl() { Some(sasl(config)?) } else { None };
    let security = Security { tls, sasl };
    security.check()?;
    Ok(security)
}

fn is_security(name: &str) -> bool {
    name == "security.protocol" || name.starts_with("ssl.") || is_of_sasl(name)
}

fn is_of_sasl(name: &str) -> bool {
    name.starts_with("sasl.") || name == "https.ca.location"
}

fn conflict(what: impl Into<String>, hint: impl Into<Hint>) -> Error {
    Error::new(ErrorKind::Config, what).with_hint(hint)
}

fn tls(config: &ClientConfig) -> Result<Tls> {
    Ok(Tls {
        trust: trust(config)?,
        identity: identity(config)?,
        verify_host_name: config.ssl_endpoint_identification_algorithm == EndpointIdentification::Https,
        verify_certificate: !config.ssl_insecure_accept_any_certificate,
        min_version: config.ssl_enabled_protocols,
    })
}

fn trust(config: &ClientConfig) -> Result<Trust> {
    let (store, kind) = (config.ssl_truststore_location.as_ref(), &config.ssl_truststore_type);
    check_format("ssl.truststore.location", store, "ssl.truststore.type", kind)?;
    match (&config.ssl_truststore_location, &config.ssl_ca_location, &config.ssl_truststore_certificates) {
        (None, None, None) => Ok(Trust::System),
        (Some(path), None, None) | (None, Some(path), None) => Ok(Trust::File(path.clone())),
        (None, None, Some(certificates)) => Ok(Trust::Pem(certificates.clone())),
        _ => Err(conflict(
            "more than one of ssl.truststore.location, ssl.truststore.certificates and ssl.ca.location is set",
            "all three say which authorities to trust: keep one",
        )),
    }
}

fn identity(config: &ClientConfig) -> Result<Option<Identity>> {
    let (store, kind) = (config.ssl_keystore_location.as_ref(), &config.ssl_keystore_type);
    check_format("ssl.keystore.location", store, "ssl.keystore.type", kind)?;
    let password = config.ssl_key_password.clone().map(Into::into);
    let files = match (&config.ssl_certificate_location, &config.ssl_key_location) {
        (Some(certificates), Some(key)) => Some((certificates, key)),
        (None, None) => None,
        (Some(_), None) => return Err(incomplete("ssl.certificate.location", "ssl.key.location")),
        (None, Some(_)) => return Err(incomplete("ssl.key.location", "ssl.certificate.location")),
    };
    let texts = match (&config.ssl_keystore_certificate_chain, &config.ssl_keystore_key) {
        (Some(certificates), Some(key)) => Some((certificates, key)),
        (None, None) => None,
        (Some(_), None) => return Err(incomplete("ssl.keystore.certificate.chain", "ssl.keystore.key")),
        (None, Some(_)) => return Err(incomplete("ssl.keystore.key", "ssl.keystore.certificate.chain")),
    };
    match (config.ssl_keystore_location.as_ref().map(|path| (path, path)), files, texts) {
        (None, None, None) if password.is_some() => Err(conflict(
            "ssl.key.password is set, but there is no private key",
            "set ssl.keystore.location, or ssl.certificate.location and ssl.key.location",
        )),
        (None, None, None) => Ok(None),
        (Some((certificates, key)), None, None) | (None, Some((certificates, key)), None) => {
            Ok(Some(Identity::Files { certificates: certificates.clone(), key: key.clone(), password }))
        }
        (None, None, Some((certificates, key))) => {
            Ok(Some(Identity::Pem { certificates: certificates.clone(), key: key.clone(), password }))
        }
        _ => Err(conflict(
            "more than one of ssl.keystore.location, ssl.keystore.certificate.chain and ssl.certificate.location is set",
            "all three say which certificate to show: keep one",
        )),
    }
}

fn incomplete(set: &str, missing: &str) -> Error {
    conflict(
        format!("{set} is set, but {missing} is missing"),
        "a certificate needs its private key, and a key its certificate",
    )
}

/// Refuses the formats of Java, by the store's type (the setting `kind` has the value `format`) or by the file's name.
fn check_format(store: &str, path: Option<&FilePath>, kind: &str, format: &str) -> Result<()> {
    let refused = |what: String| Err(Error::new(ErrorKind::Config, what));
    let is_truststore = store.starts_with("ssl.truststore");
    let by_name = path.and_then(|path| StoreFormat::of_name(path));
    let by_type = match format.to_uppercase().as_str() {
        "PEM" => None,
        "JKS" => Some(StoreFormat::Jks),
        "PKCS12" => Some(StoreFormat::Pkcs12),
        _ => return refused(format!("{kind} must be PEM, not {}", printable(format))),
    };
    match (by_type, by_name) {
        (None, None) => Ok(()),
        (None, Some(format)) => refused(format!("{store} names {}", format.refusal(path, is_truststore))),
        (Some(_), None) if path.is_some_and(|path| is_called_pem(path)) => {
            refused(format!("{kind} is {}, but {store} names a PEM file; set {kind}=PEM", printable(format)))
        }
        (Some(format), by_name) => {
            let refusal = by_name.unwrap_or(format).refusal(path, is_truststore);
            refused(format!("{kind} says that the store is {refusal}"))
        }
    }
}

/// Whether files in PEM format are called so.
fn is_called_pem(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| matches!(extension.to_lowercase().as_str(), "pem" | "crt" | "cer"))
}

fn sasl(config: &ClientConfig) -> Result<Sasl> {
    let Some(mechanism) = config.sasl_mechanism else {
        let hint = "set it to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI";
        return Err(conflict("security.protocol uses SASL, but sasl.mechanism is missing", hint));
    };
    for name in config.changed().filter(|name| is_of_sasl(name)) {
        if !uses(mechanism, name) {
            let what = format!("{name} is set, but sasl.mechanism is {mechanism}, which does not use it");
            return Err(conflict(what, "leave it out, or choose another mechanism"));
        }
    }
    if let Some(line) = &config.sasl_jaas_config {
        if let Some(name) = config.changed().find(|name| !may_stand_beside_jaas(name)) {
            return Err(conflict(format!("{name} and sasl.jaas.config are both set"), "keep one of them"));
        }
        return jaas::read(line, config, mechanism);
    }
    match mechanism {
        SaslMechanism::Plain => login(config, mechanism).map(Sasl::Plain),
        SaslMechanism::ScramSha256 => login(config, mechanism).map(|login| Sasl::Scram(ScramHash::Sha256, login)),
        SaslMechanism::ScramSha512 => login(config, mechanism).map(|login| Sasl::Scram(ScramHash::Sha512, login)),
        SaslMechanism::OAuthBearer => tokens(config).map(Sasl::OAuthBearer),
        SaslMechanism::Gssapi => Ok(Sasl::Gssapi { service_name: config.sasl_kerberos_service_name.clone() }),
    }
}

fn uses(mechanism: SaslMechanism, name: &str) -> bool {
    match name {
        "sasl.mechanism" | "sasl.jaas.config" => true,
        "sasl.kerberos.service.name" => mechanism == SaslMechanism::Gssapi,
        "sasl.username" | "sasl.password" => {
            matches!(mechanism, SaslMechanism::Plain | SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512)
        }
        _ => mechanism == SaslMechanism::OAuthBearer,
    }
}

/// What `sasl.jaas.config` does not say itself.
fn may_stand_beside_jaas(name: &str) -> bool {
    !is_of_sasl(name)
        || matches!(
            name,
            "sasl.mechanism"
                | "sasl.jaas.config"
                | "sasl.oauthbearer.token.endpoint.url"
                | "sasl.kerberos.service.name"
                | "https.ca.location"
        )
}

fn login(config: &ClientConfig, mechanism: SaslMechanism) -> Result<Login> {
    match (&config.sasl_username, &config.sasl_password) {
        (Some(username), Some(password)) => Ok(Login::new(username, password.clone())),
        (None, _) => Err(missing("sasl.username", mechanism)),
        (_, None) => Err(missing("sasl.password", mechanism)),
    }
}

fn missing(name: &str, mechanism: SaslMechanism) -> Error {
    conflict(format!("sasl.mechanism is {mechanism}, but {name} is missing or empty"), "set it, or sasl.jaas.config")
}

fn tokens(config: &ClientConfig) -> Result<TokenSource> {
    let hint = "set sasl.oauthbearer.token.file, or sasl.oauthbearer.token.endpoint.url with \
                sasl.oauthbearer.client.credentials.client.id and sasl.oauthbearer.client.credentials.client.secret";
    let id = config.sasl_oauthbearer_client_id.clone();
    match (&config.sasl_oauthbearer_token_file, &config.sasl_oauthbearer_token_endpoint_url) {
        (Some(_), None) if config.https_ca_location.is_some() => {
            let what = "https.ca.location is set, but there is no token endpoint whose certificate it is for";
            Err(conflict(what, "leave it out"))
        }
        (Some(_), None) if config.sasl_oauthbearer_extensions.is_some() => {
            let what = "sasl.oauthbearer.extensions is set, but there is no token endpoint whose tokens they go with";
            Err(conflict(what, "leave it out"))
        }
        (Some(path), None) => Ok(TokenSource::File(path.clone())),
        (None, Some(url)) => match (id, config.sasl_oauthbearer_client_secret.clone()) {
            (Some(client_id), Some(client_secret)) => Ok(TokenSource::ClientCredentials {
                endpoint_url: url.clone(),
                client_id,
                client_secret: client_secret.into(),
                scope: config.sasl_oauthbearer_scope.clone(),
                extensions: extensions(config.sasl_oauthbearer_extensions.as_deref().unwrap_or_default())?,
                trust: config.https_ca_location.clone().map_or(Trust::System, Trust::File),
            }),
            _ => Err(conflict("the client id or the client secret for the token endpoint is missing", hint)),
        },
        (None, None) => Err(conflict("sasl.mechanism is OAUTHBEARER, but nothing says where tokens come from", hint)),
        (Some(_), Some(_)) => {
            let what = "sasl.oauthbearer.token.file and sasl.oauthbearer.token.endpoint.url are both set";
            Err(conflict(what, "both say where tokens come from: keep one"))
        }
    }
}

/// The SASL extensions in a text of the form `name=value,name=value`.
fn extensions(text: &str) -> Result<Vec<(String, String)>> {
    let malformed = || conflict("sasl.oauthbearer.extensions cannot be read", "give it as name=value,name=value");
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or_else(malformed)?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    text.split(',').filter(|pair| !pair.trim().is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SecurityProtocol, TlsVersion};
    use crate::secret::Secret;

    const PASSWORD: &str = "hunter2-canary";

    fn read(properties: &[(&str, &str)]) -> Result<Security> {
        let config = ClientConfig::from_properties(properties.iter().copied())?;
        assert!(!format!("{config:?}").contains(PASSWORD));
        config.security()
    }

    fn refusal(properties: &[(&str, &str)]) -> String {
        let error = read(properties).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error}");
        error.to_string()
    }

    fn check_refusals(refusals: &[(&[(&str, &str)], &str)]) {
        for (properties, words) in refusals {
            let refused = refusal(properties);
            assert!(refused.contains(words), "{properties:?}: {refused}");
        }
    }

    #[test]
    fn without_settings_there_is_neither_tls_nor_sasl() {
        assert_eq!(read(&[]).unwrap(), Security::default());
        assert_eq!(read(&[("security.protocol", "SSL")]).unwrap(), Security::tls(Tls::default()));
    }

    #[test]
    fn files_and_texts_are_read_by_kafkas_and_librdkafkas_names() {
        let files = Tls::with_ca_file("ca.pem")
            .identity(Identity::files("client.pem", "client.key").key_password(Secret::new(PASSWORD)));
        let librdkafka = [
            ("security.protocol", "SSL"),
            ("ssl.ca.location", "ca.pem"),
            ("ssl.certificate.location", "client.pem"),
            ("ssl.key.location", "client.key"),
            ("ssl.key.password", PASSWORD),
        ];
        assert_eq!(read(&librdkafka).unwrap(), Security::tls(files));
        let one = Tls::with_ca_file("ca.pem").identity(Identity::files("client.pem", "client.pem"));
        let kafka = [
            ("security.protocol", "SSL"),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", "ca.pem"),
            ("ssl.keystore.location", "client.pem"),
        ];
        assert_eq!(read(&kafka).unwrap(), Security::tls(one));
        let texts = Tls::with_ca_pem("CA").identity(Identity::pem("CHAIN", Secret::new(PASSWORD)));
        let texts_by_name = [
            ("security.protocol", "SSL"),
            ("ssl.truststore.certificates", "CA"),
            ("ssl.keystore.certificate.chain", "CHAIN"),
            ("ssl.keystore.key", PASSWORD),
        ];
        assert_eq!(read(&texts_by_name).unwrap(), Security::tls(texts));
    }

    /// People paste the whole file as the certificate.
    #[test]
    fn a_key_among_the_certificates_is_not_shown() {
        let both = format!("-----BEGIN CERTIFICATE-----\nAA\n-----BEGIN PRIVATE KEY-----\n{PASSWORD}");
        let (ssl, chain) = (("security.protocol", "SSL"), ("ssl.keystore.certificate.chain", both.as_str()));
        let security = read(&[ssl, chain, ("ssl.keystore.key", PASSWORD)]).unwrap();
        assert_eq!(security.tls.as_ref().unwrap().identity, Some(Identity::pem(both.as_str(), Secret::new(PASSWORD))));
        assert!(!format!("{security:?}").contains(PASSWORD));
        refusal(&[ssl, chain]);
    }

    #[test]
    fn checks_are_weakened_only_by_name() {
        let weak = read(&[
            ("security.protocol", "SSL"),
            ("ssl.endpoint.identification.algorithm", ""),
            ("ssl.insecure.accept.any.certificate", "true"),
        ]);
        let expected = Tls { verify_host_name: false, verify_certificate: false, ..Tls::default() };
        assert_eq!(weak.unwrap(), Security::tls(expected));
        for (protocols, oldest) in [
            ("TLSv1.2", TlsVersion::V1_2),
            ("TLSv1.3", TlsVersion::V1_3),
            ("TLSv1.3, TLSv1.2", TlsVersion::V1_2),
            ("TLSv1.1,TLSv1.2", TlsVersion::V1_2),
            ("TLSv1,TLSv1.3", TlsVersion::V1_3),
        ] {
            let tls = read(&[("security.protocol", "SSL"), ("ssl.enabled.protocols", protocols)]).unwrap().tls;
            assert_eq!(tls.unwrap().min_version, oldest, "{protocols}");
        }
        let old = refusal(&[("security.protocol", "SSL"), ("ssl.enabled.protocols", "TLSv1,TLSv1.1")]);
        assert_eq!(
            old,
            "ssl.enabled.protocols must be TLSv1.2, TLSv1.3 or both, separated by a comma (older versions are never \
             used), not TLSv1,TLSv1.1"
        );
    }

    #[test]
    fn every_mechanism_is_read() {
        let login = || Login::new("alice", Secret::new(PASSWORD));
        for (mechanism, sasl) in [
            ("PLAIN", Sasl::Plain(login())),
            ("SCRAM-SHA-256", Sasl::Scram(ScramHash::Sha256, login())),
            ("SCRAM-SHA-512", Sasl::Scram(ScramHash::Sha512, login())),
        ] {
            let read = read(&[
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", mechanism),
                ("sasl.username", "alice"),
                ("sasl.password", PASSWORD),
            ]);
            assert_eq!(read.unwrap(), Security::default().sasl(sasl), "{mechanism}");
        }
        let gssapi = read(&[("security.protocol", "SASL_SSL"), ("sasl.mechanism", "GSSAPI")]).unwrap();
        assert_eq!(gssapi.sasl, Some(Sasl::Gssapi { service_name: "kafka".to_owned() }));
        assert_eq!(gssapi.protocol(), SecurityProtocol::SaslSsl);
        let oauth = [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "OAUTHBEARER")];
        let file = read(&[&oauth[..], &[("sasl.oauthbearer.token.file", "/token")]].concat()).unwrap();
        assert_eq!(file.sasl, Some(Sasl::OAuthBearer(TokenSource::File("/token".into()))));
        let provider = [
            ("sasl.oauthbearer.token.endpoint.url", "https://id.example/token"),
            ("sasl.oauthbearer.client.credentials.client.id", "me"),
            ("sasl.oauthbearer.client.credentials.client.secret", PASSWORD),
            ("sasl.oauthbearer.extensions", "logicalCluster=lkc-1, identityPoolId = pool=2,"),
            ("https.ca.location", "idp.pem"),
        ];
        let provider = read(&[&oauth[..], &provider].concat()).unwrap();
        let expected = TokenSource::ClientCredentials {
            endpoint_url: "https://id.example/token".into(),
            client_id: "me".to_owned(),
            client_secret: Secret::new(PASSWORD).into(),
            scope: None,
            extensions: [("logicalCluster", "lkc-1"), ("identityPoolId", "pool=2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            trust: Trust::File("idp.pem".into()),
        };
        assert_eq!(provider.sasl, Some(Sasl::OAuthBearer(expected)));
    }

    #[test]
    fn settings_of_tls_that_contradict_each_other_are_refused() {
        let ssl = ("security.protocol", "SSL");
        check_refusals(&[
            (&[("ssl.ca.location", "ca.pem")], "ssl.ca.location is set, but security.protocol does not use TLS"),
            (&[ssl, ("ssl.key.location", "a")], "ssl.key.location is set, but ssl.certificate.location is missing"),
            (&[ssl, ("ssl.certificate.location", "a")], "but ssl.key.location is missing"),
            (&[ssl, ("ssl.keystore.key", PASSWORD)], "but ssl.keystore.certificate.chain is missing"),
            (&[ssl, ("ssl.keystore.certificate.chain", "a")], "but ssl.keystore.key is missing"),
            (&[ssl, ("ssl.key.password", PASSWORD)], "there is no private key"),
            (&[ssl, ("ssl.ca.location", "a"), ("ssl.truststore.location", "b")], "keep one"),
            (
                &[
                    ssl,
                    ("ssl.keystore.location", "a"),
                    ("ssl.keystore.key", PASSWORD),
                    ("ssl.keystore.certificate.chain", "c"),
                ],
                "keep one",
            ),
            (&[("security.protocol", "SLL")], "did you mean SSL?"),
        ]);
    }

    #[test]
    fn the_content_of_a_file_in_place_of_its_path_is_refused_and_not_shown() {
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{PASSWORD}");
        let one_line = format!("-----BEGIN PRIVATE KEY-----{PASSWORD}");
        let contents = [pem, one_line, format!("eyJ{PASSWORD}"), format!("user=alice\n{PASSWORD}")];
        let in_place = |setting: &str, content: &str, instead: &str| {
            for text in &contents {
                let refused = refusal(&[(setting, text)]);
                assert_eq!(refused, format!("{setting} holds {content} and not a path; {instead}"));
            }
        };
        in_place("ssl.truststore.location", "a text", "pass the text as ssl.truststore.certificates");
        in_place("ssl.ca.location", "a text", "pass the text as ssl.truststore.certificates");
        let both = "pass the texts as ssl.keystore.certificate.chain and ssl.keystore.key";
        in_place("ssl.keystore.location", "a text", both);
        in_place("ssl.certificate.location", "a text", "pass the text as ssl.keystore.certificate.chain");
        in_place("ssl.key.location", "a key", "pass the text as ssl.keystore.key");
        let callback = "write the token to a file, or let a callback return it";
        in_place("sasl.oauthbearer.token.file", "a token", callback);
        for text in &contents {
            let text = text.as_str();
            for (security, setting) in [
                (Security::tls(Tls::with_ca_file(text)), "ssl.truststore.location"),
                (Security::tls(Tls::default().identity(Identity::files("a", text))), "ssl.key.location"),
                (Security::tls(Tls::default().identity(Identity::files(text, "a"))), "ssl.certificate.location"),
                (Security::tls(Tls::default().identity(Identity::files(text, text))), "ssl.keystore.location"),
                (Security::default().sasl(Sasl::OAuthBearer(TokenSource::File(text.into()))), "sasl.oauthbearer.token"),
            ] {
                let config = ClientConfig::default().with_security(security.clone());
                let refused = config.validate().unwrap_err();
                assert!(refused.to_string().starts_with(setting), "{refused}");
                assert!(!format!("{refused:?} {security:?} {config:?}").contains(PASSWORD));
            }
        }
    }

    #[test]
    fn stores_of_java_are_refused_with_the_command_that_converts_them() {
        let ssl = ("security.protocol", "SSL");
        check_refusals(&[
            (
                &[ssl, ("ssl.truststore.location", "trust.jks"), ("ssl.truststore.type", "JKS")],
                "ssl.truststore.type says that the store is a JKS keystore, and only PEM is supported; convert it with: \
                 keytool -list -rfc -keystore trust.jks > ca.pem",
            ),
            (
                &[ssl, ("ssl.truststore.location", "/my files/trust.p12")],
                "ssl.truststore.location names a PKCS#12 keystore, and only PEM is supported; convert it with: openssl \
                 pkcs12 -in '/my files/trust.p12' -nokeys -out ca.pem",
            ),
            (
                &[ssl, ("ssl.keystore.location", "key.jks")],
                "keytool -importkeystore -srckeystore key.jks -destkeystore",
            ),
            (
                &[ssl, ("ssl.keystore.location", "key.p12"), ("ssl.keystore.type", "JKS")],
                "a PKCS#12 keystore, and only PEM is supported; convert it with: openssl pkcs12 -in key.p12 -out client.pem",
            ),
            (&[ssl, ("ssl.keystore.type", "PKCS12")], "openssl pkcs12 -in FILE -out client.pem"),
            (&[ssl, ("ssl.truststore.type", "jks")], "keytool -list -rfc -keystore FILE"),
            (
                &[ssl, ("ssl.truststore.location", "/etc/ca.pem"), ("ssl.truststore.type", "JKS")],
                "ssl.truststore.type is JKS, but ssl.truststore.location names a PEM file; set ssl.truststore.type=PEM",
            ),
            (&[ssl, ("ssl.keystore.type", "BCFKS")], "ssl.keystore.type must be PEM, not BCFKS"),
        ]);
    }

    #[test]
    fn settings_of_sasl_that_contradict_each_other_are_refused() {
        let (protocol, plain) = (("security.protocol", "SASL_SSL"), ("sasl.mechanism", "PLAIN"));
        let (username, password) = (("sasl.username", "alice"), ("sasl.password", PASSWORD));
        let oauth = ("sasl.mechanism", "OAUTHBEARER");
        let file = ("sasl.oauthbearer.token.file", "/token");
        let url = |url| ("sasl.oauthbearer.token.endpoint.url", url);
        let id = ("sasl.oauthbearer.client.credentials.client.id", "me");
        let secret = ("sasl.oauthbearer.client.credentials.client.secret", PASSWORD);
        check_refusals(&[
            (&[plain, username, password], "is set, but security.protocol does not use SASL"),
            (
                &[("security.protocol", "SSL"), password],
                "sasl.password is set, but security.protocol does not use SASL",
            ),
            (&[protocol], "sasl.mechanism is missing"),
            (&[protocol, ("sasl.mechanism", "SCRAM-SHA512")], "did you mean SCRAM-SHA-512?"),
            (&[protocol, plain, username], "sasl.password is missing or empty"),
            (&[protocol, plain, username, ("sasl.password", "")], "sasl.password is missing or empty"),
            (&[protocol, plain, password], "sasl.username is missing or empty"),
            (&[protocol, plain, ("sasl.username", "a\0b"), password], "NUL"),
            (
                &[protocol, plain, password, ("sasl.jaas.config", PASSWORD)],
                "sasl.password and sasl.jaas.config are both",
            ),
            (&[protocol, plain, ("sasl.jaas.config", PASSWORD)], "sasl.jaas.config cannot be read"),
            (&[protocol, ("sasl.mechanism", "GSSAPI"), ("sasl.jaas.config", PASSWORD)], "cannot be read"),
            (&[protocol, oauth, password], "sasl.password is set, but sasl.mechanism is OAUTHBEARER"),
            (
                &[protocol, plain, username, password, file],
                "sasl.oauthbearer.token.file is set, but sasl.mechanism is PLAIN",
            ),
            (
                &[protocol, plain, username, password, ("https.ca.location", "a")],
                "https.ca.location is set, but sasl.mech",
            ),
            (
                &[protocol, oauth, file, ("https.ca.location", "a")],
                "https.ca.location is set, but there is no token end",
            ),
            (&[protocol, oauth], "nothing says where tokens come from"),
            (&[protocol, oauth, file, url("https://a/")], "keep one"),
            (&[protocol, oauth, url("https://a/")], "client id or the client secret"),
            (&[protocol, oauth, url("http://169.254.169.254/"), id, secret], "not an https URL"),
            (&[protocol, oauth, url("file:///etc/passwd"), id, secret], "set sasl.oauthbearer.token.file"),
            (&[protocol, oauth, url("https://me:hunter2-canary@a/"), id, secret], "must not contain a username"),
            (&[protocol, ("sasl.mechanism", "GSSAPI"), ("sasl.kerberos.service.name", "")], "service.name is empty"),
        ]);
    }

    #[test]
    fn what_the_program_sets_replaces_the_rows_and_does_not_mix_with_them() {
        let security = Security::tls(Tls::default()).sasl(Sasl::Plain(Login::new("a", Secret::new(PASSWORD))));
        let config = ClientConfig::default().with_security(security.clone());
        assert_eq!(config.security().unwrap(), security);
        assert!(!format!("{config:?}").contains(PASSWORD));
        let mixed = config.ssl_ca_location(Some("ca.pem".into())).validate().unwrap_err().to_string();
        assert!(mixed.contains("ssl.ca.location is set, and the program sets TLS and SASL without it"), "{mixed}");
        let empty = Security::default().sasl(Sasl::Plain(Login::new("", Secret::new(PASSWORD))));
        let empty = ClientConfig::default().with_security(empty).validate().unwrap_err().to_string();
        assert!(empty.contains("the SASL username is empty"), "{empty}");
    }
}
