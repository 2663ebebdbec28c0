//! TLS and SASL: `SslConfig`'s engine side, and the classes of `pykafka.sasl`.
//!
//! Passwords and tokens stay in Rust: no `repr`, `vars`, pickle or traceback shows them. Callables that return one are
//! called by a thread of the engine that may block, when a connection is authenticated or a token is about to expire;
//! what they raise becomes the cause of the exception that the program gets.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kavka::{
    EndpointUrl, Error, ErrorKind, FilePath, Identity, Login, Sasl, ScramHash, SecretSource, Security, TlsVersion,
    Token, TokenSource, Trust,
};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyString};

use crate::closing::Callback;
use crate::errors;

/// A secret text or secret bytes, which only `reveal` shows.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct Secret {
    secret: kavka::Secret,
    is_text: bool,
}

#[pymethods]
#[allow(clippy::unused_self)]
impl Secret {
    /// `name` is that of the argument, for errors.
    #[new]
    fn new(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        Ok(Self { secret: secret(name, value)?, is_text: value.is_instance_of::<PyString>() })
    }

    /// What was given.
    fn reveal<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match std::str::from_utf8(self.secret.reveal()) {
            Ok(text) if self.is_text => PyString::new(py, text).into_any(),
            _ => PyBytes::new(py, self.secret.reveal()).into_any(),
        }
    }

    fn __repr__(&self) -> &'static str {
        "***"
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a secret cannot be pickled; give it to the other process in another way"))
    }

    fn __copy__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __deepcopy__(this: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        this
    }
}

/// The secret in a Python object; the error does not show it.
fn secret(what: &str, given: &Bound<'_, PyAny>) -> PyResult<kavka::Secret> {
    if let Ok(secret) = given.cast::<Secret>() {
        return Ok(secret.get().secret.clone());
    }
    if let Ok(text) = given.cast::<PyString>() {
        // What cannot be encoded has lone surrogates; Python's own exception would show the text.
        let text = text.to_str().map_err(|_| PyValueError::new_err(format!("{what} is not valid Unicode")))?;
        return Ok(kavka::Secret::new(text.to_owned()));
    }
    match given.cast::<PyBytes>() {
        Ok(bytes) => Ok(kavka::Secret::new(bytes.as_bytes())),
        Err(_) => Err(errors::wrong_type(what, "str or bytes", given)),
    }
}

/// How a client uses TLS; see `SslConfig`.
#[pyclass(frozen, module = "pykafka._engine")]
#[derive(Debug)]
pub(crate) struct Tls(kavka::Tls);

/// The path in an argument; an empty one if it is something else.
fn path(given: &Bound<'_, PyAny>) -> FilePath {
    match given.cast::<PyBytes>() {
        Ok(bytes) => String::from_utf8_lossy(bytes.as_bytes()).into_owned().into(),
        Err(_) => given.extract::<PathBuf>().unwrap_or_default().into(),
    }
}

/// Whether an argument that should be the path of a file is its content.
#[pyfunction]
pub(crate) fn is_content(given: &Bound<'_, PyAny>) -> bool {
    FilePath::is_content(&path(given).to_string_lossy())
}

/// Whether an argument that should be the path of a file may be a secret, so that it must not be shown.
#[pyfunction]
pub(crate) fn may_be_secret(given: &Bound<'_, PyAny>) -> bool {
    let path = path(given);
    FilePath::may_be_secret(&path.to_string_lossy()) && !path.is_file()
}

/// Refuses what cannot be the argument of `SslConfig` with this name, and the content of a file in place of its path.
#[pyfunction]
pub(crate) fn check_ssl_argument(name: &str, given: &Bound<'_, PyAny>) -> PyResult<()> {
    let refused = |expected| Err(errors::wrong_type(name, expected, given));
    match name {
        _ if given.is_none() => Ok(()),
        "cafile" | "certfile" | "keyfile" => {
            let setting = match name {
                "cafile" => "ssl.ca.location",
                "certfile" => "ssl.certificate.location",
                _ => "ssl.key.location",
            };
            let is_path = given.extract::<PathBuf>().is_ok();
            let path = path(given);
            if is_path || FilePath::is_content(&path.to_string_lossy()) {
                path.check(setting).map_err(|error| errors::invalid(&error))
            } else {
                refused("a str or an os.PathLike")
            }
        }
        "check_hostname" | "insecure_accept_any_certificate" if !given.is_instance_of::<PyBool>() => {
            refused("True or False")
        }
        "ca_pem" | "cert_pem" if !given.is_instance_of::<PyString>() => refused("a str"),
        "minimum_version" if !given.is_instance_of::<PyString>() => refused("the str \"TLSv1.2\" or \"TLSv1.3\""),
        _ => Ok(()),
    }
}

fn version(minimum: &str) -> PyResult<TlsVersion> {
    match minimum {
        "TLSv1.2" => Ok(TlsVersion::V1_2),
        "TLSv1.3" => Ok(TlsVersion::V1_3),
        other => {
            let shown = kavka::printable(other);
            Err(PyValueError::new_err(format!("minimum_version must be TLSv1.2 or TLSv1.3, not {shown}")))
        }
    }
}

#[pymethods]
impl Tls {
    #[new]
    #[pyo3(signature = (
        *, cafile, certfile, keyfile, ca_pem, cert_pem, key_pem, password, check_hostname, accept_any_certificate,
        minimum_version
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        cafile: Option<PathBuf>,
        certfile: Option<PathBuf>,
        keyfile: Option<PathBuf>,
        ca_pem: Option<String>,
        cert_pem: Option<&Bound<'_, Secret>>,
        key_pem: Option<&Bound<'_, Secret>>,
        password: Option<&Bound<'_, PyAny>>,
        check_hostname: bool,
        accept_any_certificate: bool,
        minimum_version: &str,
    ) -> PyResult<Self> {
        let trust = match (cafile, ca_pem) {
            (None, None) => Trust::System,
            (Some(path), None) => Trust::File(path.into()),
            (None, Some(pem)) => Trust::Pem(pem),
            (Some(_), Some(_)) => {
                return Err(PyValueError::new_err("cafile and ca_pem both say whom to trust: keep one"));
            }
        };
        let password = password.map(key_password).transpose()?;
        let identity = match (certfile, keyfile, cert_pem, key_pem) {
            (None, None, None, None) if password.is_some() => {
                return Err(PyValueError::new_err(
                    "password is set, but there is no private key: set certfile and keyfile",
                ));
            }
            (None, None, None, None) => None,
            (Some(certificates), key, None, None) => {
                let key = key.unwrap_or_else(|| certificates.clone()).into();
                Some(Identity::Files { key, certificates: certificates.into(), password })
            }
            (None, None, Some(certificates), Some(key)) => {
                let (certificates, key) = (certificates.get().secret.clone(), key.get().secret.clone());
                Some(Identity::Pem { certificates, key, password })
            }
            (None, Some(_), None, None) => {
                return Err(PyValueError::new_err("keyfile is set, but certfile is missing"));
            }
            (None, None, Some(_), None) => {
                return Err(PyValueError::new_err("cert_pem is set, but key_pem is missing"));
            }
            (None, None, None, Some(_)) => {
                return Err(PyValueError::new_err("key_pem is set, but cert_pem is missing"));
            }
            _ => {
                let text =
                    "a certificate and its key are either files (certfile, keyfile) or texts (cert_pem, key_pem)";
                return Err(PyValueError::new_err(text));
            }
        };
        let min_version = version(minimum_version)?;
        let verify_certificate = !accept_any_certificate;
        Ok(Self(kavka::Tls { trust, identity, verify_host_name: check_hostname, verify_certificate, min_version }))
    }

    /// What is not verified, for a warning.
    #[getter]
    fn unverified(&self) -> Option<&'static str> {
        self.0.unverified()
    }
}

impl From<kavka::Tls> for Tls {
    fn from(tls: kavka::Tls) -> Self {
        Self(tls)
    }
}

/// The engine's settings for what a client was given.
pub(crate) fn security(tls: Option<&Tls>, sasl: Option<&Mechanism>) -> Security {
    Security { tls: tls.map(|tls| tls.0.clone()), sasl: sasl.map(|mechanism| mechanism.sasl.clone()) }
}

/// The base class of `Plain`, `Scram`, `OAuthBearer` and `Gssapi`.
#[pyclass(frozen, subclass, module = "pykafka.sasl")]
#[derive(Debug)]
pub(crate) struct Mechanism {
    sasl: Sasl,
    /// The arguments that are no secrets.
    shown: String,
}

#[pymethods]
#[allow(clippy::unused_self)]
impl Mechanism {
    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let class = this.get_type();
        Ok(format!("<{}.{} ({})>", class.module()?, class.name()?, this.get().shown))
    }

    /// Its name on the wire, such as SCRAM-SHA-512.
    #[getter]
    fn name(&self) -> &'static str {
        self.sasl.mechanism().name()
    }

    /// Whether the broker gets to see the password or the token; without TLS, so does everybody on the network.
    #[getter]
    fn sends_secret(&self) -> bool {
        self.sasl.sends_secret()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("credentials cannot be pickled; create them in the process that uses them"))
    }

    fn __copy__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __deepcopy__(this: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        this
    }
}

/// Credentials that were checked with the other settings of a client.
impl From<Sasl> for Mechanism {
    fn from(sasl: Sasl) -> Self {
        let shown = format!("mechanism={:?}", sasl.mechanism().name());
        Self { sasl, shown }
    }
}

impl Mechanism {
    /// Checks the credentials as far as they are known.
    fn new(sasl: Sasl, shown: String) -> PyResult<Self> {
        let config = kavka::ClientConfig::default().with_security(Security::default().sasl(sasl.clone()));
        config.validate().map_err(|error| errors::invalid(&error))?;
        Ok(Self { sasl, shown })
    }
}

/// PLAIN: sends the password to the broker. Use it with TLS only (`ssl_config`).
///
/// :param username: the user's name.
/// :param password: str or bytes; or a callable that returns one. It is called whenever a connection is authenticated,
///     by another thread, and may block.
#[pyclass(frozen, extends = Mechanism, module = "pykafka.sasl")]
#[derive(Debug)]
pub(crate) struct Plain;

#[pymethods]
impl Plain {
    #[new]
    fn new(username: String, password: &Bound<'_, PyAny>) -> PyResult<PyClassInitializer<Self>> {
        let shown = format!("username={username:?}");
        Ok(PyClassInitializer::from(Mechanism::new(Sasl::Plain(login(username, password)?), shown)?).add_subclass(Self))
    }
}

/// SCRAM: proves that the client knows the password without sending it, and that the broker knows it, too.
///
/// :param username: the user's name.
/// :param password: str or bytes; or a callable that returns one. It is called whenever a connection is authenticated,
///     by another thread, and may block.
/// :param mechanism: SCRAM-SHA-512 or SCRAM-SHA-256.
#[pyclass(frozen, extends = Mechanism, module = "pykafka.sasl")]
#[derive(Debug)]
pub(crate) struct Scram;

#[pymethods]
impl Scram {
    #[new]
    #[pyo3(signature = (username, password, mechanism = "SCRAM-SHA-512"))]
    fn new(username: String, password: &Bound<'_, PyAny>, mechanism: &str) -> PyResult<PyClassInitializer<Self>> {
        let hash = match mechanism {
            "SCRAM-SHA-512" => ScramHash::Sha512,
            "SCRAM-SHA-256" => ScramHash::Sha256,
            // In another order of the arguments it is the password.
            _ => {
                let text = "mechanism must be SCRAM-SHA-512 or SCRAM-SHA-256; it comes behind the username and the \
                            password: Scram(username, password, mechanism)";
                return Err(PyValueError::new_err(text));
            }
        };
        let shown = format!("username={username:?}, mechanism={mechanism:?}");
        let sasl = Sasl::Scram(hash, login(username, password)?);
        Ok(PyClassInitializer::from(Mechanism::new(sasl, shown)?).add_subclass(Self))
    }
}

/// OAUTHBEARER: sends a token to the broker. Use it with TLS only (`ssl_config`).
///
/// Give one of `token`, `token_file` and `token_endpoint_url`; the latter needs `client_id` and `client_secret`.
///
/// :param token: a callable that returns the token as str or bytes; or a tuple of the token, the time in seconds since
///     1970 when it expires (or None), and optionally a dict of SASL extensions. It is called again before a token
///     expires, and after a broker has refused it; if the end is unknown, whenever a connection is authenticated. That
///     happens in another thread, and may block.
/// :param client_id: the client's id at the identity provider.
/// :param client_secret: the client's secret at the identity provider, str or bytes; or a callable that returns one. It
///     is called whenever the identity provider is asked for a token, by another thread, and may block.
/// :param token_endpoint_url: the identity provider's `https` URL, which is asked by the client credentials flow.
/// :param scope: the scope to ask the identity provider for.
/// :param token_file: a file with the token, as Kubernetes writes it; read again before that token expires, and after a
///     broker has refused it.
/// :param cafile: the file with the authorities that sign the certificate of the token endpoint; None: those that the
///     system trusts. Those of `ssl_config` are for the brokers.
/// :param extensions: a dict of SASL extensions that go to the brokers with each token of `token_endpoint_url`, such as
///     `{"logicalCluster": "lkc-1", "identityPoolId": "pool-2"}` for Confluent Cloud.
#[pyclass(frozen, extends = Mechanism, module = "pykafka.sasl")]
#[derive(Debug)]
pub(crate) struct OAuthBearer;

#[pymethods]
impl OAuthBearer {
    #[new]
    #[pyo3(signature = (
        token = None, *, client_id = None, client_secret = None, token_endpoint_url = None, scope = None,
        token_file = None, cafile = None, extensions = None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        token: Option<Bound<'_, PyAny>>,
        client_id: Option<String>,
        client_secret: Option<&Bound<'_, PyAny>>,
        token_endpoint_url: Option<String>,
        scope: Option<String>,
        token_file: Option<PathBuf>,
        cafile: Option<PathBuf>,
        extensions: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let (source, shown) = match (token, token_file, token_endpoint_url) {
            (Some(token), None, None) if token.is_callable() => {
                refuse_async("token", &token)?;
                (tokens(token.unbind()), String::from("token=..."))
            }
            (Some(token), None, None) => {
                return Err(errors::wrong_type("token", "a callable that returns the token", &token));
            }
            (None, Some(path), None) => {
                let path = FilePath::from(path);
                let shown = format!("token_file={:?}", path.display().to_string());
                (TokenSource::File(path), shown)
            }
            (None, None, Some(endpoint_url)) => {
                let endpoint_url = EndpointUrl::from(endpoint_url);
                let (Some(client_id), Some(client_secret)) = (client_id.clone(), client_secret) else {
                    return Err(PyValueError::new_err("token_endpoint_url needs client_id and client_secret"));
                };
                let shown = format!("client_id={client_id:?}, token_endpoint_url={endpoint_url:?}");
                let client_secret = secret_of_client(client_secret)?;
                let scope = scope.clone();
                let trust = cafile.clone().map_or(Trust::System, |path| Trust::File(path.into()));
                let extensions = extensions.map(extensions_of).transpose()?.unwrap_or_default();
                let source =
                    TokenSource::ClientCredentials { endpoint_url, client_id, client_secret, scope, extensions, trust };
                (source, shown)
            }
            _ => return Err(PyValueError::new_err("give one of token, token_file and token_endpoint_url")),
        };
        let of_endpoint =
            [client_id.is_some(), client_secret.is_some(), scope.is_some(), cafile.is_some(), extensions.is_some()];
        if !matches!(source, TokenSource::ClientCredentials { .. }) && of_endpoint.contains(&true) {
            let text = "client_id, client_secret, scope, cafile and extensions are for token_endpoint_url";
            return Err(PyValueError::new_err(text));
        }
        Ok(PyClassInitializer::from(Mechanism::new(Sasl::OAuthBearer(source), shown)?).add_subclass(Self))
    }
}

/// GSSAPI: Kerberos, by the system's library (`libgssapi_krb5`), with the ticket of `kinit` or the keytab that the
/// variable `KRB5_CLIENT_KTNAME` names.
///
/// :param service_name: the first part of the brokers' principals.
#[pyclass(frozen, extends = Mechanism, module = "pykafka.sasl")]
#[derive(Debug)]
pub(crate) struct Gssapi;

#[pymethods]
impl Gssapi {
    #[new]
    #[pyo3(signature = (service_name = String::from("kafka")), text_signature = "(service_name='kafka')")]
    fn new(service_name: String) -> PyResult<PyClassInitializer<Self>> {
        if service_name.is_empty() {
            return Err(PyValueError::new_err("service_name is empty; it is usually kafka"));
        }
        let shown = format!("service_name={service_name:?}");
        Ok(PyClassInitializer::from(Mechanism::new(Sasl::Gssapi { service_name }, shown)?).add_subclass(Self))
    }
}

fn login(username: String, password: &Bound<'_, PyAny>) -> PyResult<Login> {
    if !password.is_callable() {
        return Ok(Login::new(username, secret("password", password)?));
    }
    refuse_async("password", password)?;
    if username.is_empty() {
        return Err(PyValueError::new_err("the SASL username is empty"));
    }
    let callable = password.clone().unbind();
    Ok(Login::from_fn(move || {
        let password = ask(&callable, "password", |given| secret("what the callable for the password returns", given))?;
        Ok((username.clone(), password))
    }))
}

/// The password of a key. A callable is called now, so that what it raises is raised by the client's constructor, and
/// then whenever the key has changed.
fn key_password(given: &Bound<'_, PyAny>) -> PyResult<SecretSource> {
    let what = "the password of the key";
    if !given.is_callable() {
        return Ok(secret(what, given)?.into());
    }
    refuse_async("password", given)?;
    let first = Mutex::new(Some(secret(what, &given.call0()?)?));
    let callable = given.clone().unbind();
    Ok(SecretSource::from_fn(move || {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map_or_else(|| ask(&callable, "password of the key", |given| secret(what, given)), Ok)
    }))
}

/// The secret of a client of an identity provider.
fn secret_of_client(given: &Bound<'_, PyAny>) -> PyResult<SecretSource> {
    if !given.is_callable() {
        return Ok(secret("client_secret", given)?.into());
    }
    refuse_async("client_secret", given)?;
    let callable = given.clone().unbind();
    let what = "what the callable for the client secret returns";
    Ok(SecretSource::from_fn(move || ask(&callable, "client secret", |given| secret(what, given))))
}

/// Refuses a callable whose result must be awaited: the thread that calls it has no event loop.
fn refuse_async(argument: &str, callable: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = callable.py();
    let is_async = py.import("inspect")?.getattr("iscoroutinefunction")?;
    let call = callable.getattr("__call__")?;
    if is_async.call1((callable,))?.is_truthy()? || is_async.call1((call,))?.is_truthy()? {
        let text =
            format!("{argument} must not be async: a thread without an event loop calls it; give a plain function");
        return Err(PyTypeError::new_err(text));
    }
    Ok(())
}

fn tokens(callable: Py<PyAny>) -> TokenSource {
    TokenSource::from_fn(move || ask(&callable, "token", token))
}

/// The last second of the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Reads a token, or a tuple of it, its end and its extensions.
fn token(given: &Bound<'_, PyAny>) -> PyResult<Token> {
    let what = "what the callable for the token returns";
    let Ok(parts) = given.cast::<pyo3::types::PyTuple>() else { return Ok(Token::new(secret(what, given)?)) };
    let wrong = || PyTypeError::new_err(format!("{what} must be a token, or (token, expires_at[, extensions])"));
    if !(2..=3).contains(&parts.len()) {
        return Err(wrong());
    }
    let mut token = Token::new(secret(what, &parts.get_item(0)?)?);
    let expires_at: Option<f64> = parts.get_item(1)?.extract().map_err(|_| wrong())?;
    if let Some(seconds) = expires_at.filter(|seconds| !(0.0..=LAST_SECOND).contains(seconds)) {
        let text = format!("{what} expires at {seconds}: give the seconds since 1970, not milliseconds, or None");
        return Err(PyValueError::new_err(text));
    }
    // The range above fits.
    #[allow(clippy::cast_possible_truncation)]
    let milliseconds = expires_at.map(|seconds| (seconds * 1000.0) as i64);
    token.expires_at_ms = milliseconds;
    if let Ok(extensions) = parts.get_item(2) {
        let extensions = extensions.cast::<PyDict>().map_err(|_| wrong())?;
        for (name, value) in extensions {
            token.extensions.push((name.extract().map_err(|_| wrong())?, value.extract().map_err(|_| wrong())?));
        }
    }
    Ok(token)
}

/// The SASL extensions of a token endpoint's tokens.
fn extensions_of(given: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    given
        .extract::<std::collections::BTreeMap<_, _>>()
        .map(|pairs| pairs.into_iter().collect())
        .map_err(|_| PyTypeError::new_err("extensions must be a dict of str to str"))
}

/// Calls a program's callable, and reads what it returns. An `OSError`, as of a server that is away, may pass; any
/// other exception means that there are no credentials.
fn ask<T>(callable: &Py<PyAny>, what: &str, read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> kavka::Result<T> {
    let asked = Python::try_attach(|py| {
        let _callback = Callback::begin_for_credentials(py)?;
        let given = callable.bind(py).call0().and_then(|given| read(&given));
        Some(given.map_err(|error| {
            let may_pass = error.is_instance_of::<PyOSError>(py);
            let kind = if may_pass { ErrorKind::Disconnected } else { ErrorKind::Authentication };
            (kind, Raised { text: error.to_string(), error: Arc::new(error) })
        }))
    });
    match asked.flatten() {
        Some(Ok(given)) => Ok(given),
        Some(Err((kind, raised))) => {
            let text = format!("the callable for the {what} raised an exception");
            Err(Error::new(kind, text).with_source(raised))
        }
        None => Err(Error::new(ErrorKind::Closed, format!("the interpreter is exiting, so nobody gives the {what}"))),
    }
}

/// What a callable raised. Its text was made while the thread was attached to Python.
pub(crate) struct Raised {
    text: String,
    error: Arc<PyErr>,
}

impl Raised {
    /// The exception, if it is among the causes of `error`.
    pub(crate) fn among_causes<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e PyErr> {
        std::iter::successors(Some(error), |error| error.source())
            .find_map(|error| error.downcast_ref::<Self>())
            .map(|raised| &*raised.error)
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Raised {}
