//! Why the command failed: one line for people, and an exit code for scripts.

use std::fmt;
use std::io::{self, Write as _};

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
    ("sasl.password", "$KAVKA_SASL_PASSWORD or --sasl-password-file"),
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

/// Names the options beside the settings, for those who use no properties file.
fn with_options(text: String) -> String {
    config::beside_mentions(text, OPTIONS.iter().copied())
}

/// Prints the engine's warnings on standard error, one line each.
pub(crate) struct Warnings;

impl Warnings {
    /// From now on.
    pub(crate) fn print() {
        // Only a second logger would be refused.
        if log::set_logger(&Self).is_ok() {
            log::set_max_level(log::LevelFilter::Warn);
        }
    }
}

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Those of other crates are not made for users of this command.
        metadata.level() <= log::Level::Warn && metadata.target().starts_with("kavka")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            // `eprintln!` would panic where nobody reads any more, and this runs in the engine's threads.
            let warning = with_options(record.args().to_string());
            drop(writeln!(io::stderr().lock(), "kavka: warning: {warning}"));
        }
    }

    fn flush(&self) {}
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let class = error.class();
        let error = with_options(error.to_string());
        match class {
            ErrorClass::Usage => Self::usage(error),
            // Of the cluster nothing is known yet.
            ErrorClass::Unreachable if error.contains("the token endpoint") => Self::new(error),
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
        for path in ["/etc/ssl.key.password", "ssl.key.password/a.pem", "ssl.key.password.txt"] {
            assert_eq!(named(path), path);
        }
    }
}
