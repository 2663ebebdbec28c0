//! Why the command failed: one line for people, and an exit code for scripts.

use std::fmt;
use std::io;

use kavka::{Error, ErrorClass, ErrorCode, config};

/// The settings that have options or variables of their own.
const OPTIONS: &[(&str, &str)] = &[
    ("security.protocol", "--security-protocol"),
    ("ssl.ca.location", "--tls-ca"),
    ("ssl.truststore.location", "--tls-ca"),
    ("ssl.certificate.location", "--tls-certificate"),
    ("ssl.key.location", "--tls-key"),
    ("ssl.key.password", "$KAVKA_TLS_KEY_PASSWORD"),
    ("sasl.mechanism", "--sasl-mechanism"),
    ("sasl.username", "--sasl-username"),
    ("sasl.password", "--sasl-password-file"),
];

/// The line for standard error, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    exit_code: u8,
    sentence: String,
}

impl Failure {
    /// Something failed: exit code 1.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { exit_code: 1, sentence: sentence.into() }
    }

    /// The command was used wrongly: exit code 2.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self { exit_code: 2, sentence: sentence.into() }
    }

    /// A signal ended it: exit code 128 plus its number, as in shells.
    pub(crate) fn interrupted(signal: u8, sentence: impl Into<String>) -> Self {
        Self { exit_code: signal.saturating_add(128), sentence: sentence.into() }
    }

    /// Reading or writing failed.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::new(format!("{what}: {error}"))
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Names the option beside the first mention of each setting, for those who use no properties file.
fn with_options(mut text: String) -> String {
    for (setting, option) in OPTIONS {
        let place = config::mentions(setting, &text).next();
        if let Some(start) = place {
            let is_in_parentheses = text.get(..start).is_some_and(|before| before.ends_with('('));
            let shown = if is_in_parentheses { format!(", {option}") } else { format!(" ({option})") };
            text.insert_str(start + setting.len(), &shown);
        }
    }
    text
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let class = error.class();
        let error = with_options(error.to_string());
        match class {
            ErrorClass::Usage => Self::usage(error),
            ErrorClass::Unreachable => Self::new(format!("{error}; is it the right cluster (-b)?")),
            ErrorClass::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                Self::new(format!("{error}; `kavka topics` lists those that exist"))
            }
            ErrorClass::Refused(_)
            | ErrorClass::TimedOut
            | ErrorClass::NotDelivered
            | ErrorClass::Full
            | ErrorClass::Malformed
            | ErrorClass::Fenced
            | ErrorClass::Unauthenticated
            | ErrorClass::Final => Self::new(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_named_beside_their_settings() {
        let named = |text: &str| with_options(text.to_owned());
        assert_eq!(
            named("ssl.key.location is set, but ssl.certificate.location is missing"),
            "ssl.key.location (--tls-key) is set, but ssl.certificate.location (--tls-certificate) is missing"
        );
        assert_eq!(
            named("it may require SASL (security.protocol)"),
            "it may require SASL (security.protocol, --security-protocol)"
        );
        assert_eq!(named("linger.ms is wrong"), "linger.ms is wrong");
        assert_eq!(
            named("`ssl.key.passwords` and my.ssl.key.password are not ssl.key.password"),
            "`ssl.key.passwords` and my.ssl.key.password are not ssl.key.password ($KAVKA_TLS_KEY_PASSWORD)"
        );
        for path in ["/etc/ssl.key.password", "ssl.key.password/a.pem", "ssl.key.password.txt"] {
            assert_eq!(named(path), path);
        }
    }
}
