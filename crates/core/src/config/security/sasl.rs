//! Who the client is, and how it proves that.

use std::fmt;
use std::sync::Arc;

use super::{FilePath, Trust};
use crate::error::{Error, ErrorKind, Result, printable};
use crate::secret::Secret;

use super::SecretSource;

/// How the client proves who it is. Kafka: `sasl.mechanism`, with the credentials.
#[derive(Debug, Clone, PartialEq)]
pub enum Sasl {
    /// Sends the password (RFC 4616): use it with TLS.
    Plain(Login),
    /// Proves that it knows the password, without sending it (RFC 5802).
    Scram(ScramHash, Login),
    /// Sends a token (RFC 7628): use it with TLS.
    OAuthBearer(TokenSource),
    /// Kerberos, by the system's GSSAPI library (RFC 4752).
    Gssapi {
        /// The first part of the brokers' principals; usually `kafka`.
        service_name: String,
    },
}

impl Sasl {
    /// Its mechanism.
    pub fn mechanism(&self) -> SaslMechanism {
        match self {
            Self::Plain(_) => SaslMechanism::Plain,
            Self::Scram(ScramHash::Sha256, _) => SaslMechanism::ScramSha256,
            Self::Scram(ScramHash::Sha512, _) => SaslMechanism::ScramSha512,
            Self::OAuthBearer(_) => SaslMechanism::OAuthBearer,
            Self::Gssapi { .. } => SaslMechanism::Gssapi,
        }
    }

    /// Whether the broker gets to see the password or the token; without TLS, so does everybody on the network.
    pub fn sends_secret(&self) -> bool {
        match self {
            Self::Plain(_) | Self::OAuthBearer(_) => true,
            Self::Scram(..) | Self::Gssapi { .. } => false,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Plain(login) | Self::Scram(_, login) => login.check(),
            Self::OAuthBearer(source) => source.check(),
            Self::Gssapi { service_name } if service_name.is_empty() => {
                Err(Error::new(ErrorKind::Config, "sasl.kerberos.service.name is empty")
                    .with_hint("it is the first part of the brokers' principals, usually `kafka`"))
            }
            Self::Gssapi { .. } => Ok(()),
        }
    }
}

/// A mechanism of SASL. Kafka: `sasl.mechanism`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SaslMechanism {
    /// `PLAIN`
    Plain,
    /// `SCRAM-SHA-256`
    ScramSha256,
    /// `SCRAM-SHA-512`
    ScramSha512,
    /// `OAUTHBEARER`
    OAuthBearer,
    /// `GSSAPI`
    Gssapi,
}

impl SaslMechanism {
    /// Its name on the wire and in `sasl.mechanism`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::Gssapi => "GSSAPI",
        }
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The hash function of SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// `SCRAM-SHA-256`
    Sha256,
    /// `SCRAM-SHA-512`
    Sha512,
}

type LoginCallback = Arc<dyn Fn() -> Result<(String, Secret)> + Send + Sync>;

/// A username and its password: fixed, or asked for at every authentication, so that a changed password is used without
/// a restart.
#[derive(Clone)]
pub struct Login(LoginSource);

#[derive(Clone)]
enum LoginSource {
    Fixed(String, Secret),
    Callback(LoginCallback),
}

impl Login {
    /// A fixed username and password.
    pub fn new(username: impl Into<String>, password: Secret) -> Self {
        Self(LoginSource::Fixed(username.into(), password))
    }

    /// Asks `callback` for username and password at every authentication. It may block.
    pub fn from_fn(callback: impl Fn() -> Result<(String, Secret)> + Send + Sync + 'static) -> Self {
        Self(LoginSource::Callback(Arc::new(callback)))
    }

    /// The username and password. May block, unless [`is_fixed`](Self::is_fixed).
    ///
    /// # Errors
    ///
    /// That of the callback; `Config` if it returned an empty username or password.
    pub fn ask(&self) -> Result<(String, Secret)> {
        match &self.0 {
            LoginSource::Fixed(username, password) => Ok((username.clone(), password.clone())),
            LoginSource::Callback(callback) => {
                let (username, password) = callback()?;
                check_login(&username, &password)?;
                Ok((username, password))
            }
        }
    }

    /// Whether [`ask`](Self::ask) returns at once.
    pub fn is_fixed(&self) -> bool {
        matches!(self.0, LoginSource::Fixed(..))
    }

    fn check(&self) -> Result<()> {
        match &self.0 {
            LoginSource::Fixed(username, password) => check_login(username, password),
            LoginSource::Callback(_) => Ok(()),
        }
    }
}

/// No mechanism can send a NUL, and PLAIN separates the two by it.
fn check_login(username: &str, password: &Secret) -> Result<()> {
    let what = if username.is_empty() {
        "the SASL username is empty"
    } else if password.reveal().is_empty() {
        "the SASL password is empty"
    } else if username.contains('\0') || password.reveal().contains(&0) {
        "the SASL username or password contains a NUL character"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Config, what))
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            LoginSource::Fixed(username, password) => {
                f.debug_struct("Login").field("username", username).field("password", password).finish()
            }
            LoginSource::Callback(_) => f.write_str("Login(callback)"),
        }
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (LoginSource::Fixed(username, password), LoginSource::Fixed(other_username, other_password)) => {
                username == other_username && password == other_password
            }
            (LoginSource::Callback(one), LoginSource::Callback(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// Returns a new token; may block.
pub type TokenCallback = Arc<dyn Fn() -> Result<Token> + Send + Sync>;

/// Where the tokens of `OAUTHBEARER` come from.
#[derive(Clone)]
pub enum TokenSource {
    /// The program: asked again before a token expires, and after a broker has refused it; at every authentication if
    /// the end of the token is unknown.
    Callback(TokenCallback),
    /// An identity provider's token endpoint, by the client credentials flow (KIP-768).
    ClientCredentials {
        /// The `https` URL of the token endpoint.
        endpoint_url: EndpointUrl,
        /// The client's id.
        client_id: String,
        /// The client's secret; asked for whenever a token is.
        client_secret: SecretSource,
        /// The scope to ask for.
        scope: Option<String>,
        /// SASL extensions that go to the brokers with each token (KIP-342).
        extensions: Vec<(String, String)>,
        /// The authorities that sign the token endpoint's certificate; those for the brokers do not count.
        trust: Trust,
    },
    /// A file, as Kubernetes writes it: read as often as [`Callback`](Self::Callback) is asked.
    File(FilePath),
    /// An unsigned token, which everybody can make: only for tests (KIP-255).
    Unsecured {
        /// Who the client claims to be.
        principal: String,
    },
}

impl TokenSource {
    /// Asks `callback` for a token, and again before it expires. It may block.
    pub fn from_fn(callback: impl Fn() -> Result<Token> + Send + Sync + 'static) -> Self {
        Self::Callback(Arc::new(callback))
    }

    fn check(&self) -> Result<()> {
        if let Self::File(path) = self {
            return path.check("sasl.oauthbearer.token.file");
        }
        let Self::ClientCredentials { endpoint_url, client_id, client_secret, extensions, trust, .. } = self else {
            return Ok(());
        };
        if let Trust::File(path) = trust {
            path.check("https.ca.location")?;
        }
        check_extensions(extensions)?;
        let endpoint_url = endpoint_url.as_str();
        let (what, hint) = if !endpoint_url.starts_with(HTTPS) {
            let hint = if endpoint_url.starts_with("file:") {
                "to read the token from a file, set sasl.oauthbearer.token.file"
            } else {
                "it receives the client's secret, so it must begin with https://"
            };
            ("sasl.oauthbearer.token.endpoint.url is not an https URL", hint)
        } else if endpoint_url.split(['/', '?', '#']).nth(2).is_some_and(|authority| authority.contains('@')) {
            let hint = "give the client's id and its secret by their own settings";
            ("sasl.oauthbearer.token.endpoint.url must not contain a username", hint)
        } else if client_id.is_empty() || client_secret.fixed().is_some_and(|secret| secret.reveal().is_empty()) {
            ("the client id or the client secret for the token endpoint is empty", "give both")
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Config, what).with_hint(hint))
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Callback(_) => f.write_str("Callback"),
            Self::ClientCredentials { endpoint_url, client_id, client_secret, scope, extensions, trust } => f
                .debug_struct("ClientCredentials")
                .field("endpoint_url", endpoint_url)
                .field("client_id", client_id)
                .field("client_secret", client_secret)
                .field("scope", scope)
                .field("extensions", extensions)
                .field("trust", trust)
                .finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Unsecured { principal } => f.debug_struct("Unsecured").field("principal", principal).finish(),
        }
    }
}

impl PartialEq for TokenSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Callback(one), Self::Callback(other)) => Arc::ptr_eq(one, other),
            (
                Self::ClientCredentials { endpoint_url, client_id, client_secret, scope, extensions, trust },
                Self::ClientCredentials {
                    endpoint_url: other_url,
                    client_id: other_id,
                    client_secret: other_secret,
                    scope: other_scope,
                    extensions: other_extensions,
                    trust: other_trust,
                },
            ) => {
                (endpoint_url, client_id, scope, trust) == (other_url, other_id, other_scope, other_trust)
                    && (client_secret, extensions) == (other_secret, other_extensions)
            }
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Unsecured { principal }, Self::Unsecured { principal: other }) => principal == other,
            _ => false,
        }
    }
}

/// Refuses what [`is_extension`] does not allow, and a name that comes twice.
fn check_extensions(extensions: &[(String, String)]) -> Result<()> {
    for (index, (name, value)) in extensions.iter().enumerate() {
        let shown = printable(name);
        let (what, hint) = if !is_extension(name, value) {
            (format!("the SASL extension {shown:?} is not a valid one"), EXTENSION_FORM)
        } else if extensions.iter().skip(index + 1).any(|(other, _)| other == name) {
            (format!("the SASL extension {shown:?} is given twice"), "keep one of them")
        } else {
            continue;
        };
        return Err(Error::new(ErrorKind::Config, what).with_hint(hint));
    }
    Ok(())
}

/// What an extension must look like, in words.
pub(crate) const EXTENSION_FORM: &str =
    "a name consists of letters and is not \"auth\"; a value is printable ASCII, and not empty";

/// Whether it is an extension by RFC 7628, of a name that the mechanism does not use itself.
pub(crate) fn is_extension(name: &str, value: &str) -> bool {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_value = value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
    is_name && name != "auth" && !value.is_empty() && is_value
}

const HTTPS: &str = "https://";

/// The URL of a token endpoint. `Debug` hides what may be secret in it: user name, password and query.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(String);

impl EndpointUrl {
    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What may be shown of it.
    pub(in crate::config) fn shown(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let rest = if scheme.is_empty() { self.0.as_str() } else { rest };
        // A password may have any character in it, so everything up to the last @ counts as one.
        let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
        let place = rest.split(['?', '#']).next().unwrap_or_default();
        let query = if place.len() < rest.len() { "?***" } else { "" };
        let separator = if scheme.is_empty() { "" } else { "://" };
        format!("{scheme}{separator}{user}{place}{query}")
    }
}

impl From<String> for EndpointUrl {
    fn from(url: String) -> Self {
        Self::from(url.as_str())
    }
}

/// White space around it does not count, nor do capitals in its scheme.
impl From<&str> for EndpointUrl {
    fn from(url: &str) -> Self {
        let url = url.trim();
        match url.split_at_checked(HTTPS.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(HTTPS) => Self(format!("{HTTPS}{rest}")),
            _ => Self(url.to_owned()),
        }
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown(), f)
    }
}

/// A token of `OAUTHBEARER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What is sent.
    pub value: Secret,
    /// When it expires, in milliseconds since 1970. If the token itself says that it expires earlier, or if this is
    /// unknown, what the token or the broker says counts.
    pub expires_at_ms: Option<i64>,
    /// SASL extensions (KIP-342).
    pub extensions: Vec<(String, String)>,
}

impl Token {
    /// A token without extensions, whose end is unknown.
    pub fn new(value: Secret) -> Self {
        Self { value, expires_at_ms: None, extensions: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientConfig;

    #[test]
    fn capitals_in_the_scheme_of_a_url_and_white_space_around_it_do_not_count() {
        for (given, url) in [
            ("HTTPS://id.example/Token", "https://id.example/Token"),
            (" https://id.example/token\n", "https://id.example/token"),
            ("HTTP://id.example", "HTTP://id.example"),
            ("id", "id"),
        ] {
            assert_eq!(EndpointUrl::from(given).as_str(), url);
        }
    }

    #[test]
    fn what_may_be_secret_in_a_url_is_not_shown() {
        for (url, shown) in [
            ("https://id.example:8443/realm/token", "https://id.example:8443/realm/token"),
            ("https://id.example/token?key=hunter2&x=y", "https://id.example/token?***"),
            ("https://id.example#hunter2", "https://id.example?***"),
            ("https://alice:hunter2@id.example/token", "https://***@id.example/token"),
            ("https://alice:hunter2?/#@id.example/token", "https://***@id.example/token"),
            ("alice:hunter2@id.example", "***@id.example"),
            ("id.example", "id.example"),
        ] {
            let source = TokenSource::ClientCredentials {
                endpoint_url: url.into(),
                client_id: "id".into(),
                client_secret: Secret::new("secret").into(),
                scope: None,
                extensions: Vec::new(),
                trust: Trust::System,
            };
            let url = Some(EndpointUrl::from(url));
            let config = ClientConfig::default().sasl_oauthbearer_token_endpoint_url(url);
            for text in [format!("{source:?}"), format!("{config:?}")] {
                assert!(text.contains(&format!("{shown:?}")) && !text.contains("hunter2"), "{text}");
            }
        }
    }
}
