//! Reads `sasl.jaas.config`: `module required name="value" ...;`.
//!
//! In Java, this line names a class to load. Here the name of the class only says which options follow: nothing is
//! loaded, and an unknown class is refused. Errors never show a value, because any of them may be a password.

use std::collections::BTreeMap;

use super::{Login, Sasl, SaslMechanism, ScramHash, TokenSource, Trust};
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::secret::Secret;

const SETTING: &str = "sasl.jaas.config";

/// Stands before the names of SASL extensions, which are options of OAUTHBEARER.
const EXTENSION_PREFIX: &str = "extension_";

/// The credentials of `text` for `mechanism`, with what `config` says beside it.
pub(super) fn read(text: &Secret, config: &ClientConfig, mechanism: SaslMechanism) -> Result<Sasl> {
    let wanted = match mechanism {
        SaslMechanism::Plain => "org.apache.kafka.common.security.plain.PlainLoginModule",
        SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => {
            "org.apache.kafka.common.security.scram.ScramLoginModule"
        }
        SaslMechanism::OAuthBearer => "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule",
        SaslMechanism::Gssapi => "com.sun.security.auth.module.Krb5LoginModule",
    };
    let text = std::str::from_utf8(text.reveal()).map_err(|_| refused("is not UTF-8 text"))?;
    let mut line = Line::parse(text)?;
    if line.module != wanted {
        let what = format!("must name {wanted} for {mechanism}, not {}", printable(&line.module));
        return Err(refused(&what));
    }
    let sasl = match mechanism {
        SaslMechanism::Plain => Sasl::Plain(line.login()?),
        SaslMechanism::ScramSha256 => Sasl::Scram(ScramHash::Sha256, line.login()?),
        SaslMechanism::ScramSha512 => Sasl::Scram(ScramHash::Sha512, line.login()?),
        SaslMechanism::OAuthBearer => Sasl::OAuthBearer(line.tokens(config)?),
        SaslMechanism::Gssapi => line.kerberos(config)?,
    };
    match line.options.pop_first() {
        None => Ok(sasl),
        Some((name, _)) => Err(refused(&format!("has the option {}, which is not supported", printable(&name)))),
    }
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{SETTING} {what}"))
}

/// A login module with its options.
struct Line {
    module: String,
    options: BTreeMap<String, String>,
}

impl Line {
    fn parse(text: &str) -> Result<Self> {
        let form = "give `module required name=\"value\" ...;`, in one line and with quotes around the values";
        let malformed = || refused("cannot be read").with_hint(form);
        let mut words = words(text).ok_or_else(malformed)?.into_iter();
        let module = words.next().ok_or_else(malformed)?;
        if !matches!(words.next().as_deref(), Some("required" | "requisite" | "sufficient" | "optional")) {
            return Err(malformed());
        }
        let mut options = BTreeMap::new();
        loop {
            let name = words.next().ok_or_else(|| refused("does not end with a semicolon"))?;
            if name == ";" {
                break;
            }
            let (Some("="), Some(value)) = (words.next().as_deref(), words.next()) else { return Err(malformed()) };
            options.insert(name, value);
        }
        if words.next().is_some() {
            Err(refused("has more than one login module"))
        } else {
            Ok(Self { module, options })
        }
    }

    fn take(&mut self, name: &str) -> Result<String> {
        self.options.remove(name).ok_or_else(|| refused(&format!("has no option {name}")))
    }

    fn login(&mut self) -> Result<Login> {
        Ok(Login::new(self.take("username")?, Secret::new(self.take("password")?)))
    }

    /// The ticket is the one that the system's library finds. What Java's module can do besides needs variables of that
    /// library.
    fn kerberos(&mut self, config: &ClientConfig) -> Result<Sasl> {
        let is_on = |value: Option<String>| value.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let (key_tab, ticket_cache) = (self.options.remove("keyTab"), self.options.remove("ticketCache"));
        if is_on(self.options.remove("useKeyTab")) || key_tab.is_some() {
            return Err(refused("asks for a keytab")
                .with_hint("set the variable KRB5_CLIENT_KTNAME to the path of the keytab, and leave the line out"));
        }
        if ticket_cache.is_some() {
            return Err(refused("names a ticket cache")
                .with_hint("set the variable KRB5CCNAME to its path, and leave ticketCache out"));
        }
        if self.options.remove("principal").is_some() {
            return Err(refused("names a principal").with_hint(
                "leave principal out: the client is whoever the ticket in the cache, or the keytab, is for",
            ));
        }
        for name in ["useTicketCache", "renewTGT", "doNotPrompt", "storeKey", "refreshKrb5Config", "debug"] {
            self.options.remove(name);
        }
        let is_configured = config.changed().any(|name| name == "sasl.kerberos.service.name");
        let configured = config.sasl_kerberos_service_name.clone();
        let service_name = self.options.remove("serviceName").unwrap_or_else(|| configured.clone());
        if is_configured && service_name != configured {
            return Err(refused("has another serviceName than sasl.kerberos.service.name says")
                .with_hint("keep one of them: it is the first part of the brokers' principals"));
        }
        Ok(Sasl::Gssapi { service_name })
    }

    fn tokens(&mut self, config: &ClientConfig) -> Result<TokenSource> {
        if let Some(principal) = self.options.remove("unsecuredLoginStringClaim_sub") {
            let unused = [
                ("sasl.oauthbearer.token.endpoint.url", config.sasl_oauthbearer_token_endpoint_url.is_some()),
                ("https.ca.location", config.https_ca_location.is_some()),
            ];
            return match unused.iter().find(|(_, is_set)| *is_set) {
                Some((name, _)) => Err(refused(&format!("asks for an unsecured token, and {name} is set"))
                    .with_hint("leave it out, or give clientId and clientSecret for the token endpoint")),
                None => Ok(TokenSource::Unsecured { principal }),
            };
        }
        let (client_id, client_secret) = (self.take("clientId")?, Secret::new(self.take("clientSecret")?).into());
        let scope = self.options.remove("scope");
        let extensions = self.extensions();
        let missing = || refused("has a clientId, but sasl.oauthbearer.token.endpoint.url is not set");
        let endpoint_url = config.sasl_oauthbearer_token_endpoint_url.clone().ok_or_else(missing)?;
        if self.options.remove("ssl.truststore.type").is_some_and(|kind| !kind.eq_ignore_ascii_case("PEM")) {
            return Err(refused("has an ssl.truststore.type other than PEM"));
        }
        // As Kafka has it: TLS to the token endpoint is a matter of the login.
        let authorities = self.options.remove("ssl.truststore.location").map(Into::into);
        let trust = authorities.or_else(|| config.https_ca_location.clone()).map_or(Trust::System, Trust::File);
        Ok(TokenSource::ClientCredentials { endpoint_url, client_id, client_secret, scope, extensions, trust })
    }

    /// The SASL extensions, which have a prefix before their names.
    fn extensions(&mut self) -> Vec<(String, String)> {
        let (extensions, others) = std::mem::take(&mut self.options)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(name, _)| name.starts_with(EXTENSION_PREFIX));
        self.options = others;
        let name = |name: String| name.strip_prefix(EXTENSION_PREFIX).unwrap_or_default().to_owned();
        extensions.into_iter().map(|(option, value)| (name(option), value)).collect()
    }
}

/// The words of a line: names, quoted values without their quotes, `=` and `;`. `None` if a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '=' | ';' => (first.to_string(), rest.get(1..)?),
            '"' | '\'' => quoted(rest.get(1..)?, first)?,
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | ';' | '"' | '\''));
                let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
                (word.to_owned(), after)
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

/// The text up to the closing quote, and what follows. A backslash takes the next character as it is.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((index, letter)) = letters.next() {
        if letter == quote {
            return Some((value, text.get(index + 1..)?));
        }
        value.push(if letter == '\\' { letters.next()?.1 } else { letter });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EndpointUrl;

    const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
    const OAUTH: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";

    fn plain(line: &str) -> Result<Sasl> {
        read(&Secret::new(line), &ClientConfig::default(), SaslMechanism::Plain)
    }

    #[test]
    fn a_line_of_kafka_is_read() {
        let line = format!("{PLAIN} required username=\"ali\\\"ce\"\n  password = 'a;=b \\\\' ;");
        let expected = Sasl::Plain(Login::new("ali\"ce", Secret::new("a;=b \\")));
        assert_eq!(plain(&line).unwrap(), expected);
        let line = "org.apache.kafka.common.security.scram.ScramLoginModule required username=a password=b;";
        let scram = read(&Secret::new(line), &ClientConfig::default(), SaslMechanism::ScramSha512).unwrap();
        assert_eq!(scram, Sasl::Scram(ScramHash::Sha512, Login::new("a", Secret::new("b"))));
    }

    #[test]
    fn tokens_come_from_a_provider_or_are_unsecured() {
        let url = EndpointUrl::from("https://id.example/token");
        let config = ClientConfig::default().sasl_oauthbearer_token_endpoint_url(Some(url.clone()));
        let with_ca = config.clone().https_ca_location(Some("/ca.pem".into()));
        for (config, option, trust) in [
            (&config, "", Trust::System),
            (&with_ca, "", Trust::File("/ca.pem".into())),
            (&with_ca, "ssl.truststore.type=PEM ssl.truststore.location=\"/idp.pem\"", Trust::File("/idp.pem".into())),
        ] {
            let extensions = "extension_logicalCluster=\"lkc-1\" extension_identityPoolId='pool-2'";
            let line =
                format!("{OAUTH} required clientId=\"me\" clientSecret=\"s\" scope=\"all\" {extensions} {option};");
            let expected = TokenSource::ClientCredentials {
                endpoint_url: url.clone(),
                client_id: "me".to_owned(),
                client_secret: Secret::new("s").into(),
                scope: Some("all".to_owned()),
                extensions: vec![
                    ("identityPoolId".to_owned(), "pool-2".to_owned()),
                    ("logicalCluster".to_owned(), "lkc-1".to_owned()),
                ],
                trust,
            };
            let sasl = read(&Secret::new(line), config, SaslMechanism::OAuthBearer).unwrap();
            assert_eq!(sasl, Sasl::OAuthBearer(expected));
        }
        let line = format!("{OAUTH} required unsecuredLoginStringClaim_sub=\"alice\";");
        let sasl = read(&Secret::new(line), &ClientConfig::default(), SaslMechanism::OAuthBearer).unwrap();
        assert_eq!(sasl, Sasl::OAuthBearer(TokenSource::Unsecured { principal: "alice".to_owned() }));
    }

    #[test]
    fn what_an_endpoint_of_tokens_needs_must_fit_the_line() {
        let url = ClientConfig::default().sasl_oauthbearer_token_endpoint_url(Some("https://id.example/token".into()));
        let authorities = ClientConfig::default().https_ca_location(Some("/ca.pem".into()));
        for (config, options, words) in [
            (
                &url,
                "unsecuredLoginStringClaim_sub=a",
                "unsecured token, and sasl.oauthbearer.token.endpoint.url is set",
            ),
            (&authorities, "unsecuredLoginStringClaim_sub=a", "unsecured token, and https.ca.location is set"),
            (&authorities, "clientId=a clientSecret=canary", "sasl.oauthbearer.token.endpoint.url is not set"),
            (
                &url,
                "clientId=a clientSecret=canary ssl.truststore.type=JKS ssl.truststore.location=\"/canary.jks\"",
                "has an ssl.truststore.type other than PEM",
            ),
        ] {
            let line = Secret::new(format!("{OAUTH} required {options};"));
            let error = read(&line, config, SaslMechanism::OAuthBearer).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("canary"), "{options}: {error}");
        }
    }

    #[test]
    fn javas_module_for_kerberos_asks_for_a_ticket_or_says_which_variable_to_set() {
        const KRB5: &str = "com.sun.security.auth.module.Krb5LoginModule";
        let kerberos = |options: &str, service_name: &str| {
            let line = Secret::new(format!("{KRB5} required {options};"));
            let config = ClientConfig::default().sasl_kerberos_service_name(service_name.to_owned());
            read(&line, &config, SaslMechanism::Gssapi)
        };
        for (options, configured, service_name) in [
            ("useTicketCache=true renewTGT=true", "broker", "broker"),
            ("serviceName=\"broker\"", "kafka", "broker"),
            ("serviceName=\"broker\"", "broker", "broker"),
        ] {
            let sasl = kerberos(options, configured).unwrap();
            assert_eq!(sasl, Sasl::Gssapi { service_name: service_name.into() }, "{options}");
        }
        let conflict = kerberos("serviceName=\"broker\"", "other").unwrap_err().to_string();
        assert!(conflict.contains("another serviceName than sasl.kerberos.service.name says; keep one"), "{conflict}");
        for (options, variable) in [
            ("useKeyTab=true keyTab=\"/canary\" principal=\"a@B\"", "set the variable KRB5_CLIENT_KTNAME to"),
            ("useKeyTab=True", "set the variable KRB5_CLIENT_KTNAME to"),
            ("useTicketCache=true principal=\"canary@B\"", "leave principal out"),
            ("useTicketCache=true ticketCache=\"/canary\"", "set the variable KRB5CCNAME to"),
            ("useCanary=true", "has the option useCanary, which is not supported"),
        ] {
            let refused = kerberos(options, "kafka").unwrap_err().to_string();
            assert!(refused.contains(variable) && !refused.contains("/canary"), "{refused}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_used_is_refused_without_showing_it() {
        for (line, words) in [
            (String::new(), "cannot be read"),
            (format!("{PLAIN} username=\"canary\";"), "cannot be read"),
            (format!("{PLAIN} required username=\"canary;"), "cannot be read"),
            (format!("{PLAIN} required username \"canary\";"), "cannot be read"),
            (format!("{PLAIN} required username=\"canary\" password=\"canary\""), "does not end with a semicolon"),
            (format!("{PLAIN} required username=\"canary\";"), "has no option password"),
            (format!("{PLAIN} required username=\"a\" password=\"canary\" x=\"canary\";"), "the option x"),
            (format!("{PLAIN} required username=\"a\" password=\"canary\"; {PLAIN} required;"), "more than one"),
            ("com.sun.security.auth.module.JndiLoginModule required a=\"canary\";".to_owned(), "must name org.apache"),
        ] {
            let error = plain(&line).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("canary"), "{line}: {error}");
        }
    }
}
