//! The types of settings: how each is parsed and shown.

use std::time::Duration;

use super::servers::{parse_bootstrap_servers, show_server};
use super::{
    Acks, AutoOffsetReset, EndpointIdentification, EndpointUrl, FilePath, GroupProtocol, IsolationLevel, SaslMechanism,
    SecurityProtocol, TlsVersion,
};
use crate::error::Error;
use crate::secret::Secret;
use crate::wire::records::{Compression, CompressionType};

/// The type of a setting.
pub(super) trait Value: Sized {
    /// The form of a value in properties, in words.
    const KIND: &'static str;
    /// Whether values must not be shown.
    const IS_SECRET: bool = false;
    /// The names of the values, if there are few.
    const CHOICES: &'static [&'static str] = &[];
    /// The type of the default in a row.
    type Literal;

    /// The default, from a row's literal.
    fn from_literal(literal: Self::Literal) -> Self;

    /// Parses text without surrounding white space. `Err(None)` if it is not of the form [`Value::KIND`].
    fn parse(text: &str) -> Result<Self, Option<Error>>;

    /// Shows the value in the form that `parse` reads.
    fn show(&self) -> String;

    /// The number that the range applies to, in the unit of properties; `None` if the value is not a number.
    fn number(&self) -> Option<u128> {
        None
    }
}

/// A number with commas between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl Value for Duration {
    const KIND: &'static str = "a number of milliseconds";
    type Literal = u64;

    fn from_literal(literal: u64) -> Self {
        Self::from_millis(literal)
    }

    fn parse(text: &str) -> Result<Self, Option<Error>> {
        text.parse().map(Self::from_millis).map_err(|_| None)
    }

    fn show(&self) -> String {
        // Properties cannot set a fraction of a millisecond, but a program can.
        if self.subsec_nanos().is_multiple_of(1_000_000) { self.as_millis().to_string() } else { format!("{self:?}") }
    }

    fn number(&self) -> Option<u128> {
        Some(self.as_millis())
    }
}

macro_rules! parsed {
    ($($type:ty, $kind:literal, $number:expr;)+) => {$(
        impl Value for $type {
            const KIND: &'static str = $kind;
            type Literal = Self;

            fn from_literal(literal: Self) -> Self {
                literal
            }

            fn parse(text: &str) -> Result<Self, Option<Error>> {
                text.parse().map_err(|_| None)
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn number(&self) -> Option<u128> {
                let number: fn(Self) -> Option<u128> = $number;
                number(*self)
            }
        }
    )+};
}

parsed! {
    u32, "a number", |value| Some(value.into());
    usize, "a number", |value| u128::try_from(value).ok();
    bool, "true or false", |_| None;
}

macro_rules! texts {
    ($($type:ty, $show:expr;)+) => {$(
        impl Value for $type {
            const KIND: &'static str = "a text";
            type Literal = &'static str;

            fn from_literal(literal: &'static str) -> Self {
                literal.into()
            }

            fn parse(text: &str) -> Result<Self, Option<Error>> {
                Ok(text.into())
            }

            fn show(&self) -> String {
                let show: fn(&Self) -> String = $show;
                show(self)
            }
        }
    )+};
}

texts! {
    String, Self::clone;
    EndpointUrl, Self::shown;
    FilePath, |path| path.display().to_string();
}

impl Value for Secret {
    const KIND: &'static str = "a secret text";
    const IS_SECRET: bool = true;
    type Literal = Self;

    fn from_literal(literal: Self) -> Self {
        literal
    }

    fn parse(text: &str) -> Result<Self, Option<Error>> {
        Ok(Self::new(text))
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

/// A list of versions, of which the oldest counts that is supported. Java's older ones may stand beside them.
impl Value for TlsVersion {
    const KIND: &'static str = "TLSv1.2, TLSv1.3 or both, separated by a comma (older versions are never used)";
    type Literal = Self;

    fn from_literal(literal: Self) -> Self {
        literal
    }

    fn parse(text: &str) -> Result<Self, Option<Error>> {
        let version = |name: &str| match name.trim() {
            "TLSv1.2" => Some(Some(Self::V1_2)),
            "TLSv1.3" => Some(Some(Self::V1_3)),
            "TLSv1.1" | "TLSv1" | "SSLv3" | "SSLv2Hello" => Some(None),
            _ => None,
        };
        let versions: Option<Vec<_>> = text.split(',').map(version).collect();
        versions.and_then(|versions| versions.into_iter().flatten().min()).ok_or(None)
    }

    fn show(&self) -> String {
        match self {
            Self::V1_2 => "TLSv1.2,TLSv1.3".to_owned(),
            Self::V1_3 => "TLSv1.3".to_owned(),
        }
    }
}

/// An empty text stands for `None`.
impl<V: Value> Value for Option<V> {
    const KIND: &'static str = V::KIND;
    const IS_SECRET: bool = V::IS_SECRET;
    const CHOICES: &'static [&'static str] = V::CHOICES;
    type Literal = Self;

    fn from_literal(literal: Self) -> Self {
        literal
    }

    fn parse(text: &str) -> Result<Self, Option<Error>> {
        if text.is_empty() { Ok(None) } else { V::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(V::show).unwrap_or_default()
    }

    fn number(&self) -> Option<u128> {
        self.as_ref().and_then(V::number)
    }
}

/// Bootstrap servers.
impl Value for Vec<(String, u16)> {
    const KIND: &'static str = "one or more host:port, separated by commas";
    type Literal = (&'static str, u16);

    fn from_literal((host, port): Self::Literal) -> Self {
        vec![(host.to_owned(), port)]
    }

    fn parse(text: &str) -> Result<Self, Option<Error>> {
        parse_bootstrap_servers(text).map_err(Some)
    }

    fn show(&self) -> String {
        self.iter().map(|(host, port)| show_server(host, *port)).collect::<Vec<_>>().join(",")
    }
}

/// An enum with names for its values. The first name is the one that is shown.
macro_rules! choices {
    ($($type:ident is $kind:literal: $($choice:ident = $($name:literal)|+),+;)+) => {$(
        impl Value for $type {
            const KIND: &'static str = $kind;
            const CHOICES: &'static [&'static str] = &[$($($name),+),+];
            type Literal = Self;

            fn from_literal(literal: Self) -> Self {
                literal
            }

            fn parse(text: &str) -> Result<Self, Option<Error>> {
                match text {
                    $($($name)|+ => Ok(Self::$choice),)+
                    _ => Err(None),
                }
            }

            fn show(&self) -> String {
                let names: &[&str] = match self {
                    $(Self::$choice => &[$($name),+],)+
                };
                names.first().copied().unwrap_or_default().to_owned()
            }
        }
    )+};
}

choices! {
    Acks is "all, 1 or 0": All = "all" | "-1", Leader = "1", None = "0";
    AutoOffsetReset is "earliest, latest or none": Earliest = "earliest", Latest = "latest", None = "none";
    GroupProtocol is "auto, classic or consumer": Auto = "auto", Classic = "classic", Consumer = "consumer";
    EndpointIdentification is "https, or none": Https = "https" | "HTTPS", None = "none" | "";
    IsolationLevel is "read_committed or read_uncommitted":
        ReadCommitted = "read_committed", ReadUncommitted = "read_uncommitted";
    SaslMechanism is "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI":
        Plain = "PLAIN", ScramSha256 = "SCRAM-SHA-256", ScramSha512 = "SCRAM-SHA-512",
        OAuthBearer = "OAUTHBEARER", Gssapi = "GSSAPI";
    SecurityProtocol is "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL":
        Plaintext = "PLAINTEXT" | "plaintext", Ssl = "SSL" | "ssl",
        SaslPlaintext = "SASL_PLAINTEXT" | "sasl_plaintext", SaslSsl = "SASL_SSL" | "sasl_ssl";
}

/// A level follows a colon: `zstd:9`.
impl Value for Compression {
    const KIND: &'static str = "none, gzip, snappy, lz4 or zstd, optionally with a level as in zstd:9";
    type Literal = CompressionType;

    fn from_literal(literal: CompressionType) -> Self {
        literal.into()
    }

    fn parse(text: &str) -> Result<Self, Option<Error>> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse().map_err(|_| None)?)),
            None => (text, None),
        };
        let compression_type = CompressionType::from_name(name).ok_or(None)?;
        Self::new(compression_type, level).map_err(Some)
    }

    fn show(&self) -> String {
        match self.level() {
            Some(level) => format!("{}:{level}", self.compression_type()),
            None => self.compression_type().to_string(),
        }
    }
}
