//! Which cluster to connect to, and how: the options of all subcommands.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use kavka::Secret;
use kavka::config::{Setting, select_properties, without_effect};

use crate::arguments::{NAME_AND_VALUE, file};
use crate::failure::Failure;

/// The environment variable that names the cluster if no argument does.
const BOOTSTRAP_VARIABLE: &str = "KAVKA_BOOTSTRAP_SERVERS";
/// The environment variable with the password for `sasl.username`.
const PASSWORD_VARIABLE: &str = "KAVKA_SASL_PASSWORD";
/// The environment variable with the password of the private key.
const KEY_PASSWORD_VARIABLE: &str = "KAVKA_TLS_KEY_PASSWORD";

// The doc comments are help texts, which have no Markdown.
#[allow(clippy::doc_markdown)]
#[derive(Debug, Default, PartialEq, Args)]
pub(crate) struct Cluster {
    /// The cluster: one or more host:port, separated by commas
    #[arg(short, long, value_name = "HOST:PORT", global = true)]
    pub(crate) bootstrap_server: Option<String>,
    /// A setting by its Kafka name, such as client.id=me; may be repeated; docs/reference/configuration.md lists all
    #[arg(short = 'X', long = "property", value_name = NAME_AND_VALUE, global = true, value_parser = assignment)]
    pub(crate) properties: Vec<(String, String)>,
    /// A properties file with settings, as Kafka's own tools read it
    #[arg(short = 'F', long, value_name = "FILE", global = true, aliases = ["producer.config", "consumer.config"])]
    #[arg(value_parser = file())]
    command_config: Option<PathBuf>,
    /// PLAINTEXT (default), SSL, SASL_PLAINTEXT or SASL_SSL; the --tls and --sasl options make it SSL or SASL_SSL
    #[arg(long, value_name = "PROTOCOL", global = true, help_heading = "TLS and SASL")]
    security_protocol: Option<String>,
    /// The PEM file with the authorities to trust; by default, those that the system trusts
    #[arg(long, value_name = "FILE", global = true, help_heading = "TLS and SASL")]
    tls_ca: Option<String>,
    /// The PEM file with the certificate to show
    #[arg(long, value_name = "FILE", global = true, help_heading = "TLS and SASL")]
    tls_certificate: Option<String>,
    /// The PEM file with its private key; $KAVKA_TLS_KEY_PASSWORD decrypts it
    #[arg(long, value_name = "FILE", global = true, help_heading = "TLS and SASL")]
    tls_key: Option<String>,
    /// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI
    #[arg(long, value_name = "MECHANISM", global = true, help_heading = "TLS and SASL")]
    sasl_mechanism: Option<String>,
    /// The user; the password is in $KAVKA_SASL_PASSWORD or --sasl-password-file, because everybody sees arguments
    #[arg(long, value_name = "NAME", global = true, help_heading = "TLS and SASL")]
    sasl_username: Option<String>,
    /// The file with the password; a newline at its end does not count
    #[arg(long, value_name = "FILE", global = true, value_parser = file(), help_heading = "TLS and SASL")]
    sasl_password_file: Option<PathBuf>,
}

/// Settings by name; if a name repeats, the last one counts.
type Settings = Vec<(String, String)>;

impl Cluster {
    /// The settings of a client, and of what `tables` describe. The command's own defaults come first; after them the
    /// environment, the properties file, -X and the other options.
    pub(crate) fn settings(&self, tables: &[&[Setting]], defaults: &[(&str, &str)]) -> Result<Settings, Failure> {
        let mut settings: Settings = defaults.iter().map(|(name, value)| own(name, value)).collect();
        let variable = |name: &str| env::var(name).ok();
        settings.extend(variable(BOOTSTRAP_VARIABLE).map(|list| own("bootstrap.servers", &list)));
        if let Some(path) = &self.command_config {
            settings.extend(from_file(path, tables)?);
        }
        settings.extend(self.properties.iter().filter(|(name, value)| has_effect(name, value)).cloned());
        let options = [
            ("security.protocol", &self.security_protocol),
            ("ssl.ca.location", &self.tls_ca),
            ("ssl.certificate.location", &self.tls_certificate),
            ("ssl.key.location", &self.tls_key),
            ("sasl.mechanism", &self.sasl_mechanism),
            ("sasl.username", &self.sasl_username),
            ("bootstrap.servers", &self.bootstrap_server),
        ];
        settings.extend(options.into_iter().filter_map(|(name, value)| Some(own(name, value.as_deref()?))));
        if let Some(path) = &self.sasl_password_file {
            settings.push(own("sasl.password", &password_in(path)?));
        }
        complete(&mut settings, self.implied_protocol(), variable);
        Ok(settings)
    }

    /// The protocol that the options need, if nothing else names one. Passwords are sent only over TLS.
    fn implied_protocol(&self) -> Option<&'static str> {
        if self.sasl_mechanism.is_some() || self.sasl_username.is_some() {
            Some("SASL_SSL")
        } else {
            [&self.tls_ca, &self.tls_certificate, &self.tls_key].into_iter().any(Option::is_some).then_some("SSL")
        }
    }
}

fn own(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Adds the protocol, and the passwords of the environment, where settings need them and do not have them.
fn complete(settings: &mut Settings, protocol: Option<&str>, variable: impl Fn(&str) -> Option<String>) {
    let names: Vec<String> = settings.iter().map(|(name, _)| name.clone()).collect();
    let has = |wanted: &[&str]| names.iter().any(|name| wanted.contains(&name.as_str()));
    if !has(&["security.protocol"]) {
        settings.extend(protocol.map(|protocol| own("security.protocol", protocol)));
    }
    if has(&["sasl.username"]) && !has(&["sasl.password"]) {
        settings.extend(variable(PASSWORD_VARIABLE).map(|password| own("sasl.password", &password)));
    }
    if has(&["ssl.key.location", "ssl.keystore.location", "ssl.keystore.key"]) && !has(&["ssl.key.password"]) {
        settings.extend(variable(KEY_PASSWORD_VARIABLE).map(|password| own("ssl.key.password", &password)));
    }
}

/// The properties of a file that this subcommand uses.
fn from_file(path: &Path, tables: &[&[Setting]]) -> Result<Settings, Failure> {
    let shown = path.display();
    let bytes = content(path)?;
    let selected = select_properties(bytes.reveal(), tables);
    let (used, unknown) = selected.map_err(|why| Failure::usage(format!("{shown}: {why}")))?;
    for why in unknown {
        eprintln!("kavka: {shown}: {why}; it is ignored");
    }
    Ok(used)
}

/// Whether a setting of -X is not one of those that a properties file may have without effect. Says so, if it is.
fn has_effect(name: &str, value: &str) -> bool {
    let why = without_effect(name, value);
    if let Some(why) = &why {
        eprintln!("kavka: {why}; it is ignored");
    }
    why.is_none()
}

fn password_in(path: &Path) -> Result<String, Failure> {
    let bytes = content(path)?;
    let text = std::str::from_utf8(bytes.reveal());
    let text = text.map_err(|_| Failure::usage(format!("{} is not valid UTF-8", path.display())))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// What is in a file with passwords.
fn content(path: &Path) -> Result<Secret, Failure> {
    let read = fs::read(path).map(Secret::new);
    read.map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}

/// Parses `NAME=VALUE`.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is added to settings with these names, if the variables have passwords.
    fn added(names: &[&str], protocol: Option<&str>) -> Settings {
        let mut settings: Settings = names.iter().map(|name| own(name, "given")).collect();
        complete(&mut settings, protocol, |variable| Some(format!("in {variable}")));
        settings.split_off(names.len())
    }

    #[test]
    fn passwords_of_the_environment_are_used_only_where_they_are_needed() {
        assert_eq!(added(&["sasl.username"], None), [own("sasl.password", "in KAVKA_SASL_PASSWORD")]);
        assert_eq!(added(&["ssl.key.location"], None), [own("ssl.key.password", "in KAVKA_TLS_KEY_PASSWORD")]);
        let complete = ["sasl.username", "sasl.password", "ssl.keystore.location", "ssl.key.password"];
        for names in [&complete[..], &["sasl.jaas.config"], &["ssl.ca.location"], &[]] {
            assert_eq!(added(names, None), [], "{names:?}");
        }
    }

    #[test]
    fn options_of_tls_and_sasl_need_no_protocol_and_never_send_a_password_unencrypted() {
        let tls = Cluster { tls_ca: Some("ca.pem".into()), ..Cluster::default() };
        assert_eq!(tls.implied_protocol(), Some("SSL"));
        let sasl = Cluster { sasl_mechanism: Some("PLAIN".into()), ..Cluster::default() };
        assert_eq!(sasl.implied_protocol(), Some("SASL_SSL"));
        assert_eq!(Cluster::default().implied_protocol(), None);
        assert_eq!(added(&[], Some("SSL")), [own("security.protocol", "SSL")]);
        assert_eq!(added(&["security.protocol"], Some("SSL")), []);
    }
}
