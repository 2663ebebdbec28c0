//! The token of OAUTHBEARER: where it comes from, and how long it is kept.
//!
//! All connections of a client use one token until 80 % of its life have passed. Then a task fetches the next one,
//! whether anybody uses the client or not. While that fails, the old token serves until it expires, unless a broker
//! refuses it. A token whose end is unknown is not kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use kavka_core::config::{FilePath, Token, TokenSource};
use kavka_core::error::{Error, ErrorKind, Result};
use kavka_core::secret::Secret;

use super::super::clock::timestamp_ms;
use super::oidc::Endpoint;
use super::{no_credentials, on_a_thread, panicked};

/// The largest file that is read as a token.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The life of an unsecured token.
const UNSECURED_LIFE_S: i64 = 3_600;

/// Between two attempts to replace a token before it expires, and after an identity provider has refused the client: it
/// may lock the account after a few more attempts.
const FETCH_AGAIN: Duration = Duration::from_secs(5);

pub(super) struct Tokens {
    source: TokenSource,
    /// That of [`TokenSource::ClientCredentials`].
    endpoint: Option<Endpoint>,
    state: Mutex<State>,
    /// Held while a token is fetched: however many connections want one, the source is asked once.
    fetching: Arc<tokio::sync::Mutex<()>>,
    /// Whether a task replaces the token before it expires.
    is_kept: AtomicBool,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    failures: u64,
    failure: Option<(Error, Instant)>,
}

struct Kept {
    token: Token,
    refresh_at_ms: i64,
    expires_at_ms: i64,
}

impl Tokens {
    pub(super) fn new(source: TokenSource, endpoint: Option<Endpoint>) -> Arc<Self> {
        let (state, fetching, is_kept) = Default::default();
        Arc::new(Self { source, endpoint, state, fetching, is_kept })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept token, unless it has expired. If a `fresh` one is wanted, 80 % of its lifetime must not have passed
    /// yet.
    pub(super) fn kept(&self, fresh: bool) -> Option<Token> {
        let state = self.lock();
        let is_usable = |kept: &&Kept| timestamp_ms() < if fresh { kept.refresh_at_ms } else { kept.expires_at_ms };
        state.kept.as_ref().filter(is_usable).map(|kept| kept.token.clone())
    }

    /// A token that has not expired.
    pub(super) async fn get(self: &Arc<Self>, fresh: bool) -> Result<Token> {
        if let Some(token) = self.kept(fresh) {
            return Ok(token);
        }
        let failures_before = self.lock().failures;
        let one = Arc::clone(&self.fetching).lock_owned().await;
        let tokens = Arc::clone(self);
        // This goes on if nobody waits for it any more, so that the source is never asked twice at a time.
        let fetching = tokio::spawn(async move {
            let _one = one;
            match tokens.kept(fresh) {
                Some(token) => Ok(token),
                None => tokens.renew(failures_before).await,
            }
        });
        fetching.await.unwrap_or_else(|cause| Err(panicked(cause)))
    }

    /// The error to repeat instead of asking the source again: one failure holds for all that waited for it, and that
    /// of an identity provider which refuses the client holds for a while.
    fn repeated_failure(&self, failures_before: u64) -> Option<Error> {
        let state = self.lock();
        let (error, at) = state.failure.as_ref()?;
        let is_limited = matches!(self.source, TokenSource::ClientCredentials { .. });
        let holds = is_limited && error.kind() == ErrorKind::Authentication && at.elapsed() < FETCH_AGAIN;
        (holds || state.failures > failures_before).then(|| error.clone())
    }

    async fn renew(self: &Arc<Self>, failures_before: u64) -> Result<Token> {
        if let Some(error) = self.repeated_failure(failures_before) {
            return Err(error);
        }
        match self.fetch().await.map(trimmed).and_then(|token| Ok((expiry(&token)?, token))) {
            Ok((expires_at_ms, token)) => {
                self.keep(&token, expires_at_ms);
                Ok(token)
            }
            Err(error) => {
                let error = no_credentials("there is no token for SASL", error);
                let mut state = self.lock();
                state.failures += 1;
                state.failure = Some((error.clone(), Instant::now()));
                Err(error)
            }
        }
    }

    /// Notes that a broker refused the token: the next connection gets another one.
    pub(super) fn handle_refusal(&self) {
        if let Some(kept) = &mut self.lock().kept {
            (kept.refresh_at_ms, kept.expires_at_ms) = (0, 0);
        }
    }

    fn keep(self: &Arc<Self>, token: &Token, expires_at_ms: Option<i64>) {
        let Some(expires_at_ms) = expires_at_ms else { return };
        let refresh_at_ms = refresh_at(timestamp_ms(), expires_at_ms);
        self.lock().kept = Some(Kept { token: token.clone(), refresh_at_ms, expires_at_ms });
        if !self.is_kept.swap(true, Ordering::Relaxed) {
            tokio::spawn(replace(Arc::downgrade(self)));
        }
    }

    async fn fetch(&self) -> Result<Token> {
        match &self.source {
            TokenSource::Callback(callback) => {
                let callback = Arc::clone(callback);
                on_a_thread(move || callback()).await?
            }
            TokenSource::File(path) => {
                let path = path.clone();
                on_a_thread(move || read(&path)).await?
            }
            TokenSource::Unsecured { principal } => Ok(unsecured(principal, timestamp_ms())),
            TokenSource::ClientCredentials { extensions, .. } => match &self.endpoint {
                Some(endpoint) => Ok(Token { extensions: extensions.clone(), ..endpoint.token().await? }),
                None => Err(Error::new(ErrorKind::Internal, "there is no token endpoint")),
            },
        }
    }
}

/// Replaces the token each time 80 % of its life have passed. Ends when the client does, or when the token expires,
/// until the next one is fetched.
async fn replace(tokens: Weak<Tokens>) {
    loop {
        let wait = match tokens.upgrade() {
            Some(tokens) => match tokens.lock().kept.as_ref() {
                Some(kept) => kept.refresh_at_ms.saturating_sub(timestamp_ms()),
                None => return,
            },
            None => return,
        };
        tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
        let Some(tokens) = tokens.upgrade() else { return };
        if let Err(error) = tokens.get(true).await {
            log::warn!("the token for SASL OAUTHBEARER cannot be replaced before it expires: {error}");
            tokio::time::sleep(FETCH_AGAIN).await;
            if tokens.kept(false).is_none() {
                tokens.is_kept.store(false, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// Without the newline that editors and `echo` leave behind a token.
fn trimmed(mut token: Token) -> Token {
    let value = token.value.reveal().trim_ascii();
    if value.len() < token.value.reveal().len() {
        token.value = Secret::new(value);
    }
    token
}

/// When 80 % of the life of a token have passed.
fn refresh_at(now_ms: i64, expires_at_ms: i64) -> i64 {
    now_ms.saturating_add(expires_at_ms.saturating_sub(now_ms) / 5 * 4)
}

/// When the token expires, if that is known; if its source and the token itself say different things, the earlier of
/// the two, because a broker goes by the token. An error if it has expired.
pub(in crate::driver) fn expiry(token: &Token) -> Result<Option<i64>> {
    let expires_at_ms = token.expires_at_ms.into_iter().chain(claimed_expiry(&token.value)).min();
    let age_ms = expires_at_ms.map_or(-1, |at| timestamp_ms().saturating_sub(at));
    if age_ms >= 0 {
        let what = format!("the new token expired {} s ago", age_ms / 1_000);
        return Err(Error::new(ErrorKind::Authentication, what).with_hint("is the clock of this machine right?"));
    }
    Ok(expires_at_ms)
}

/// The `exp` claim, if the token is a JSON Web Token.
fn claimed_expiry(token: &Secret) -> Option<i64> {
    let claims = token.reveal().split(|byte| *byte == b'.').nth(1)?;
    let claims = zeroize::Zeroizing::new(BASE64.decode(claims).ok()?);
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims.get("exp")?.as_f64()?;
    Some((seconds * 1_000.0) as i64)
}

fn read(path: &FilePath) -> Result<Token> {
    let fault =
        |what: String| Error::new(ErrorKind::Authentication, format!("the token file {}: {what}", path.display()));
    let read = || {
        use std::io::Read as _;
        let mut text = zeroize::Zeroizing::new(String::new());
        std::fs::File::open(&**path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let text = read().map_err(|cause| fault("it cannot be read".into()).with_source(cause))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(fault(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    if text.trim().is_empty() { Err(fault("it is empty".into())) } else { Ok(Token::new(Secret::new(text.as_str()))) }
}

/// An unsecured JSON Web Signature (RFC 7515, appendix A.5), as Kafka's brokers accept it for tests.
fn unsecured(principal: &str, now_ms: i64) -> Token {
    let issued_at = now_ms / 1_000;
    let expires_at = issued_at + UNSECURED_LIFE_S;
    let header = serde_json::json!({ "alg": "none" });
    let claims = serde_json::json!({ "sub": principal, "iat": issued_at, "exp": expires_at });
    let part = |json: &serde_json::Value| BASE64.encode(json.to_string());
    let value = Secret::new(format!("{}.{}.", part(&header), part(&claims)));
    Token { value, expires_at_ms: Some(expires_at * 1_000), extensions: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use kavka_core::config::{Sasl as Settings, Trust};

    use super::super::super::network::{Network, Tcp};
    use super::super::common::{provider, run};
    use super::super::{Identity, Sasl};
    use super::*;

    /// Counts how often it is asked, and answers as the n-th time says.
    fn counted(answer: impl Fn(usize) -> Result<Token> + Send + Sync + 'static) -> (Arc<Tokens>, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&count);
        let source = TokenSource::from_fn(move || answer(asked.fetch_add(1, Ordering::SeqCst)));
        (Tokens::new(source, None), count)
    }

    fn lasting(milliseconds: i64) -> Token {
        let mut token = Token::new(Secret::new("token"));
        token.expires_at_ms = Some(timestamp_ms() + milliseconds);
        token
    }

    #[test]
    fn white_space_around_a_token_does_not_count() {
        let (tokens, _) = counted(|_| Ok(Token::new(Secret::new(" token\r\n"))));
        assert_eq!(run(tokens.get(false)).unwrap().value, Secret::new("token"));
    }

    #[test]
    fn a_token_is_used_again_until_it_must_be_replaced() {
        let (tokens, count) = counted(|_| Ok(lasting(3_600_000)));
        run(async {
            let all = (0..5).map(|_| tokens.get(true));
            for token in all {
                assert_eq!(token.await.unwrap().value, Secret::new("token"));
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(refresh_at(1_000, 11_000), 9_000);
    }

    #[test]
    fn a_token_is_replaced_again_and_again_although_nobody_asks_for_it() {
        let (tokens, count) = counted(|_| Ok(lasting(100)));
        run(async {
            tokens.get(false).await.unwrap();
            let seen = async {
                while count.load(Ordering::SeqCst) < 4 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), seen).await.expect("three lives of a token");
        });
    }

    #[test]
    fn the_old_token_serves_while_the_next_one_cannot_be_fetched() {
        let (tokens, count) = counted(|asked| match asked {
            0 => Ok(lasting(3_600_000)),
            _ => Err(Error::new(ErrorKind::Disconnected, "the provider is away")),
        });
        run(async {
            tokens.get(false).await.unwrap();
            tokens.lock().kept.as_mut().unwrap().refresh_at_ms = 0;
            let error = tokens.get(true).await.unwrap_err();
            assert!(error.is_retriable() && error.to_string().contains("the provider is away"), "{error}");
            tokens.get(false).await.unwrap();
        });
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_token_that_a_broker_refused_is_not_presented_again() {
        let (tokens, count) = counted(|_| Ok(lasting(3_600_000)));
        run(async {
            tokens.get(false).await.unwrap();
            tokens.handle_refusal();
            assert!(tokens.kept(false).is_none());
            tokens.get(false).await.unwrap();
        });
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn an_identity_provider_that_refuses_is_left_alone_for_a_while() {
        // Without an endpoint, every fetch fails.
        let tokens = Tokens::new(provider("id.example", Trust::System), None);
        run(async {
            for _ in 0..2 {
                assert_eq!(tokens.get(false).await.unwrap_err().kind(), ErrorKind::Authentication);
            }
            assert_eq!(tokens.lock().failures, 1);
            tokens.lock().failure.as_mut().unwrap().1 -= FETCH_AGAIN;
            tokens.get(false).await.unwrap_err();
            assert_eq!(tokens.lock().failures, 2);
        });
    }

    #[test]
    fn the_source_is_not_asked_a_second_time_while_it_is_asked() {
        let (enter, entered) = tokio::sync::mpsc::unbounded_channel();
        let (leave, left) = std::sync::mpsc::channel();
        let left = Mutex::new(left);
        let (tokens, count) = counted(move |_| {
            enter.send(()).unwrap();
            left.lock().unwrap().recv().unwrap();
            Ok(lasting(3_600_000))
        });
        let mut entered = entered;
        run(async {
            let first = Arc::clone(&tokens);
            let first = tokio::spawn(async move { first.get(false).await });
            entered.recv().await.unwrap();
            first.abort();
            first.await.unwrap_err();
            let second = Arc::clone(&tokens);
            let second = tokio::spawn(async move { second.get(false).await });
            tokio::task::yield_now().await;
            leave.send(()).unwrap();
            leave.send(()).unwrap();
            second.await.unwrap().unwrap();
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_connection_authenticates_again_with_the_old_token_while_the_provider_is_away() {
        let source = TokenSource::from_fn({
            let asked = AtomicUsize::new(0);
            move || match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(lasting(3_600_000)),
                _ => Err(Error::new(ErrorKind::Disconnected, "the provider is away")),
            }
        });
        let network: Arc<dyn Network> = Arc::new(Tcp::default());
        let sasl = Sasl::new(Settings::OAuthBearer(source), None, &network, Duration::from_secs(60)).unwrap();
        run(async {
            sasl.identity(false).await.unwrap();
            let tokens = sasl.tokens.as_ref().unwrap();
            tokens.lock().kept.as_mut().unwrap().refresh_at_ms = 0;
            assert!(matches!(sasl.identity(true).await, Ok(Identity::Token(_))));
            tokens.handle_refusal();
            assert!(sasl.identity(true).await.is_err());
        });
    }

    #[test]
    fn one_failure_holds_for_all_that_wait_for_it() {
        let (tokens, count) = counted(|_| {
            std::thread::sleep(Duration::from_millis(50));
            Err(Error::new(ErrorKind::Misuse, "no token today"))
        });
        run(async {
            let waiting: Vec<_> = (0..5)
                .map(|_| {
                    tokio::spawn({
                        let tokens = Arc::clone(&tokens);
                        async move { tokens.get(false).await }
                    })
                })
                .collect();
            for outcome in waiting {
                assert_eq!(outcome.await.unwrap().unwrap_err().kind(), ErrorKind::Authentication);
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_expired_token_is_refused_and_the_next_one_asked_for() {
        let (tokens, count) = counted(|asked| Ok(lasting(if asked == 0 { -5_000 } else { 3_600_000 })));
        run(async {
            let error = tokens.get(false).await.unwrap_err();
            assert!(error.to_string().contains("the new token expired 5 s ago"), "{error}");
            tokens.get(false).await.unwrap();
        });
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn an_unsecured_token_says_itself_when_it_expires() {
        let token = unsecured("ali\"ce", 1_700_000_000_000);
        assert_eq!(claimed_expiry(&token.value), Some(1_700_003_600_000));
        let text = std::str::from_utf8(token.value.reveal()).unwrap();
        assert!(text.starts_with("eyJhbGciOiJub25lIn0.") && text.ends_with('.'), "{text}");
        for other in ["", "opaque", "a.b.c", "a.e30.c"] {
            assert_eq!(claimed_expiry(&Secret::new(other)), None);
        }
    }

    #[test]
    fn a_token_file_is_read_again_each_time() {
        let path = std::env::temp_dir().join(format!("kavka-token-{}", std::process::id()));
        let tokens = Tokens::new(TokenSource::File(path.as_path().into()), None);
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(run(tokens.get(false)).unwrap().value, Secret::new("first"));
        std::fs::write(&path, "second").unwrap();
        assert_eq!(run(tokens.get(false)).unwrap().value, Secret::new("second"));
        std::fs::write(&path, " \n").unwrap();
        assert!(run(tokens.get(false)).unwrap_err().to_string().contains("it is empty"));
        std::fs::write(&path, "x".repeat(70_000)).unwrap();
        assert!(run(tokens.get(false)).unwrap_err().to_string().contains("longer than"));
        std::fs::remove_file(&path).unwrap();
        let error = run(tokens.get(false)).unwrap_err().to_string();
        assert!(error.contains("kavka-token") && error.contains("cannot be read"), "{error}");
    }
}
