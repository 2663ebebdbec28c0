//! The task of one connection: moves bytes between a socket and a [`link::Connection`].
//!
//! It dials, waits for the handshakes of TLS and of Kafka, and then serves its mailbox until the connection ends. Every
//! request that reached the mailbox is answered or failed. The rules of the protocol are not here.
//!
//! While requests wait in silence, the task has the broker checked on another connection. A broker that is silent
//! there, too, counts as unreachable, and its connection ends.
//!
//! When a request has expired while others still wait, the mailbox moves to a new connection, and the old one only
//! waits for the responses that are still due.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use kavka_core::cluster::Owner;
use kavka_core::error::{Error, ErrorKind, Place, Result};
use kavka_core::link::{Answer, Connection, ConnectionConfig, Greeting, RequestId, SendOptions};
use kavka_core::time::Instant;
use kavka_core::wire::{AnyRequest, ApiKey};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, timeout};

use super::greeter::set_up;
use super::network::Stream;
use super::sasl::Again;
use super::transfer::{last_words, read_once, write_output};
use super::{BoxFuture, ConnectionKey, Switchboard, WireEvent};

/// How long the connection for checks is kept: not so long that it is doubtful when it is used again, because then a
/// slow broker would have a third of the time only.
const CHECK_MAX_IDLE: Duration = Duration::from_secs(20);

/// How many reads are done before other tasks get their turn.
const READS_PER_TURN: usize = 16;

type Mailbox = mpsc::UnboundedReceiver<Mail>;

/// A message to a connection's task.
pub(super) enum Mail {
    Request(Outgoing),
    /// Asks for the newest version of an API that both sides support, once the handshake is complete.
    Version(ApiKey, oneshot::Sender<Result<i16>>),
    /// The broker's throttle time, in milliseconds.
    Throttle(i32),
}

pub(super) struct Outgoing {
    pub(super) request: Box<dyn AnyRequest>,
    pub(super) options: SendOptions,
    /// Whether it was sent before, on a connection that died.
    pub(super) is_repeated: bool,
    pub(super) reply: oneshot::Sender<Result<Answer>>,
}

/// A request that waits for its response.
struct Waiting {
    reply: oneshot::Sender<Result<Answer>>,
    sent_at: Instant,
    /// The request, if it may be sent a second time.
    again: Option<(Box<dyn AnyRequest>, SendOptions)>,
}

/// Why a connection ended.
enum End {
    /// It was idle for `connections.max.idle.ms`, and no request can reach its mailbox any more; or it was retired, and
    /// nobody waits for a response.
    Unused,
    /// A request has expired, with this error, while others still wait: the connection takes no more requests.
    Retired(Error),
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Mail {
    pub(super) fn fail(self, error: &Error) {
        // The receiver may be gone, if the caller gave up first.
        match self {
            Self::Request(outgoing) => drop(outgoing.reply.send(Err(error.clone()))),
            Self::Version(_, reply) => drop(reply.send(Err(error.clone()))),
            Self::Throttle(_) => {}
        }
    }
}

/// Dials `key`, and serves `mailbox` until the connection ends. If a connection that has worked turns out to be dead,
/// requests that are safe to repeat are sent once more on a new one.
pub(super) async fn run(shared: Arc<Switchboard>, key: ConnectionKey, mut mailbox: Mailbox) {
    let mut again: Vec<Outgoing> = Vec::new();
    let error = loop {
        let opened = match open(&shared, key).await {
            Ok(opened) => opened,
            Err(error) => break error,
        };
        shared.handle_opened(key);
        let mut task = Task::new(Arc::clone(&shared), key, opened);
        for outgoing in again.drain(..) {
            task.send(outgoing);
        }
        let end = poll_fn(|context| task.poll(context, Some(&mut mailbox))).await;
        match end {
            End::Unused => return,
            End::Retired(error) => {
                shared.lock().old_brokers.forget(key.endpoint);
                task.note_end(&error);
                tokio::spawn(task.finish());
                if shared.forget_unused(key, &mailbox) {
                    return;
                }
            }
            End::Failed(error) => {
                shared.lock().old_brokers.forget(key.endpoint);
                again = task.fail_all(&error);
                task.note_end(&error);
                if again.is_empty() {
                    break error;
                }
            }
        }
    };
    // Forget the connection first: once the mailbox is closed, a sender may put a new connection in its place.
    shared.forget(key);
    mailbox.close();
    for outgoing in again {
        Mail::Request(outgoing).fail(&error);
    }
    while let Some(mail) = mailbox.recv().await {
        mail.fail(&error);
    }
}

/// A connection that is ready for requests.
struct Opened {
    connection: Connection,
    stream: Box<dyn Stream>,
    /// How long dialling and the handshake took.
    took: Duration,
}

async fn open(shared: &Switchboard, key: ConnectionKey) -> Result<Opened> {
    if let Some(sasl) = &shared.sasl {
        sasl.check(shared.now())?;
    }
    // If this ends with the failed dial of another connection, that failure is already counted.
    shared.not_for_the_broker(key, wait_to_dial(shared, key)).await?;
    let began = shared.now();
    let opened = set_up(shared, key).await.inspect_err(|error| match key.owner {
        Owner::Check => shared.handle_unmade_check(key, error),
        _ => shared.handle_unreachable(key, error),
    });
    let (connection, stream) = opened?;
    let took = shared.now().since(began).min(shared.config.connection_setup_timeout);
    Ok(Opened { connection, stream, took })
}

pub(super) fn connection_config(shared: &Switchboard, key: ConnectionKey, place: Place) -> ConnectionConfig {
    let mut state = shared.lock();
    ConnectionConfig {
        client_id: shared.config.client_id.clone(),
        max_response_bytes: shared.config.max_response_bytes,
        place,
        has_spoken: state.route.was_opened(key.endpoint),
        greeting: Greeting::default(),
        keeps_order: matches!(key.owner, Owner::Produce(_)),
        authentication_limit: shared.config.connection_setup_timeout,
        session_percent: 85 + state.random.below(11) as u32,
    }
}

/// Waits until the broker may be dialled. Ends early, with the error, if the dial of another connection fails
/// meanwhile, or if the broker refused us a moment ago.
async fn wait_to_dial(shared: &Switchboard, key: ConnectionKey) -> Result<()> {
    let mut dialled = shared.dialled.subscribe();
    let before = shared.lock().route.failures(key.endpoint);
    loop {
        let now = shared.now();
        let wait = {
            let mut state = shared.lock();
            if (state.route.failures(key.endpoint) > before || state.route.is_refused(now, key.endpoint))
                && let Some(away) = state.unreachable.get(&key.endpoint)
            {
                return Err(away.error.clone());
            }
            match state.route.begin_dial(now, key.endpoint, shared.config.connection_setup_timeout) {
                Some(at) => at.since(now),
                None => return Ok(()),
            }
        };
        // The sender lives as long as `shared`, so this ends with a change or with the time-out.
        drop(timeout(wait, dialled.changed()).await);
    }
}

struct Task {
    shared: Arc<Switchboard>,
    key: ConnectionKey,
    connection: Connection,
    stream: Box<dyn Stream>,
    waiting: HashMap<RequestId, Waiting>,
    next_id: u64,
    answers: Vec<Answer>,
    /// Whether the broker has answered a request, or took requests without an answer for a while.
    was_of_use: bool,
    opened_at: Instant,
    /// Whether a request was sent that the broker does not answer (`acks=0`).
    has_sent_unanswered: bool,
    /// Fires at the first deadline or earlier, which costs only one extra look.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    again: Again,
    took_to_open: Duration,
    /// The check whether the broker still works, on another connection.
    check: Option<BoxFuture<'static, bool>>,
    /// Whether the broker was found to be dead.
    is_dead: bool,
}

impl Task {
    fn new(shared: Arc<Switchboard>, key: ConnectionKey, opened: Opened) -> Self {
        let Opened { connection, stream, took } = opened;
        Self {
            opened_at: shared.now(),
            shared,
            key,
            connection,
            stream,
            waiting: HashMap::new(),
            next_id: 0,
            answers: Vec::new(),
            was_of_use: false,
            has_sent_unanswered: false,
            timer: None,
            again: Again::new(key),
            took_to_open: took,
            check: None,
            is_dead: false,
        }
    }

    /// Ready when the connection has ended, with the reason. Without a mailbox, it ends when nobody waits any more.
    fn poll(&mut self, context: &mut Context<'_>, mailbox: Option<&mut Mailbox>) -> Poll<End> {
        match self.try_poll(context, mailbox) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    fn try_poll(
        &mut self,
        context: &mut Context<'_>,
        mut mailbox: Option<&mut Mailbox>,
    ) -> std::result::Result<(), End> {
        loop {
            let mut progress = match &mut mailbox {
                Some(mailbox) => self.poll_mailbox(context, mailbox)?,
                None => false,
            };
            progress |= self.again.poll(&self.shared, &mut self.connection, context)?;
            let wrote = match write_output(self.shared.now(), &mut self.connection, &mut self.stream, context) {
                Ok(wrote) => wrote,
                Err(failed) => return Err(self.read_last_words(context, failed).into()),
            };
            progress |= wrote.anything;
            if wrote.is_flushed {
                self.hand_out_unanswered();
            }
            progress |= self.poll_read(context)?;
            if !progress {
                return self.poll_timer(context, mailbox.as_deref());
            }
        }
    }

    fn poll_mailbox(&mut self, context: &mut Context<'_>, mailbox: &mut Mailbox) -> Result<bool> {
        let mut progress = false;
        while self.connection.is_ready() && self.connection.throttled_until(self.shared.now()).is_none() {
            match mailbox.poll_recv(context) {
                Poll::Ready(Some(mail)) => self.handle_mail(mail),
                Poll::Ready(None) => return Err(Error::new(ErrorKind::Closed, "the client was closed")),
                Poll::Pending => break,
            }
            progress = true;
        }
        Ok(progress)
    }

    fn handle_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Request(outgoing) => self.send(outgoing),
            Mail::Throttle(milliseconds) => self.connection.handle_throttle(self.shared.now(), milliseconds),
            Mail::Version(key, reply) => {
                let (ours, none) = (key.versions(), Error::new(ErrorKind::Disconnected, "the handshake is not done"));
                let chosen = self.connection.versions().ok_or(none);
                drop(reply.send(chosen.and_then(|versions| versions.choose(key, (*ours.start(), *ours.end())))));
            }
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        if outgoing.reply.is_closed() {
            return;
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let now = self.shared.now();
        let Outgoing { request, options, is_repeated, reply } = outgoing;
        let segments_before = self.shared.tap.is_some().then(|| self.connection.output().count());
        match self.connection.send(now, id, request.as_ref(), options) {
            Ok(version) => {
                if let (Some(tap), Some(before)) = (&self.shared.tap, segments_before) {
                    let frame = self.connection.output().skip(before).cloned().collect();
                    tap(&WireEvent::Sent { key: request.key(), version, frame });
                }
                let may_repeat = request.key().is_repeatable() && !is_repeated;
                let again = may_repeat.then_some((request, options));
                self.waiting.insert(id, Waiting { reply, sent_at: now, again });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let mut progress = false;
        for _ in 0..READS_PER_TURN {
            let read = read_once(self.shared.now(), &mut self.connection, &mut self.stream, &mut self.answers, context);
            self.hand_out_answers();
            match read {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(progress),
            }
            progress = true;
        }
        context.waker().wake_by_ref();
        Ok(false)
    }

    /// Hands out the responses that came before writing `failed`; returns why the connection has ended.
    fn read_last_words(&mut self, context: &mut Context<'_>, failed: Error) -> Error {
        let now = self.shared.now();
        let error = last_words(now, &mut self.connection, &mut self.stream, &mut self.answers, context, failed);
        self.hand_out_answers();
        error
    }

    /// Also those that arrived before the connection broke.
    fn hand_out_answers(&mut self) {
        let mut answers = std::mem::take(&mut self.answers);
        if !answers.is_empty() {
            self.note_use();
        }
        answers.drain(..).for_each(|answer| self.hand_out(answer));
        self.answers = answers;
    }

    /// Has the broker checked when that is due, and takes the outcome.
    fn poll_check(&mut self, now: Instant, context: &mut Context<'_>) -> Result<()> {
        if let Some(limit) = self.connection.poll_check(now) {
            // A check may have to open a connection first, which takes as long as it took here.
            let limit = limit.saturating_add(self.took_to_open);
            self.check = Some(self.shared.check(self.key.endpoint, limit));
        }
        let Some(check) = &mut self.check else { return Ok(()) };
        let Poll::Ready(is_alive) = check.as_mut().poll(context) else { return Ok(()) };
        self.check = None;
        if is_alive {
            self.connection.handle_alive(now);
        } else if let Some(error) = self.connection.handle_dead() {
            self.is_dead = true;
            return Err(error);
        }
        Ok(())
    }

    fn hand_out_unanswered(&mut self) {
        while let Some(answer) = self.connection.poll_unanswered() {
            self.has_sent_unanswered = true;
            self.hand_out(answer);
        }
        self.note_silent_use();
    }

    fn note_use(&mut self) {
        if !self.was_of_use {
            self.was_of_use = true;
            self.shared.handle_reached(self.key);
        }
    }

    /// With `acks=0` a broker answers nothing. If it has taken such requests for longer than a back-off, the connection
    /// was of use; if it hangs up earlier, it is left alone for the back-off, as if it had hung up on any other
    /// request.
    fn note_silent_use(&mut self) {
        let age = self.shared.now().since(self.opened_at);
        if self.has_sent_unanswered && age >= self.shared.config.reconnect_backoff_max {
            self.note_use();
        }
    }

    fn hand_out(&mut self, answer: Answer) {
        if let Some(tap) = &self.shared.tap {
            let body = answer.body.clone();
            tap(&WireEvent::Received { key: answer.key, version: answer.version, body });
        }
        let id = answer.id;
        self.reply(id, Ok(answer));
    }

    /// Hands a request's outcome to whoever waits for it; the receiver may be gone.
    fn reply(&mut self, id: RequestId, outcome: Result<Answer>) {
        match self.waiting.remove(&id) {
            Some(waiting) => drop(waiting.reply.send(outcome)),
            None => debug_assert!(false, "a request has a second outcome, or was never sent"),
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>, mailbox: Option<&Mailbox>) -> std::result::Result<(), End> {
        loop {
            let now = self.shared.now();
            if let Some(error) = self.connection.handle_timeout(now) {
                return Err(error.into());
            }
            self.poll_check(now, context)?;
            if let Some(error) = self.expire(now)
                && mailbox.is_some()
            {
                return Err(End::Retired(error));
            }
            if mailbox.is_none() && self.waiting.is_empty() {
                return Err(End::Unused);
            }
            let throttled_until = self.connection.throttled_until(now);
            // While throttled, a connection is not idle: messages may be waiting for the throttle time to end.
            let idle_since = self.connection.idle_since().filter(|_| throttled_until.is_none());
            let idle_until = idle_since.map(|since| since + self.max_idle());
            if let Some(mailbox) = mailbox
                && idle_until.is_some_and(|until| until <= now)
                && self.shared.forget_unused(self.key, mailbox)
            {
                return Err(End::Unused);
            }
            let due = [self.connection.poll_timeout(), idle_until, throttled_until].into_iter().flatten().min();
            let Some(due) = due else { return Ok(()) };
            let alarm = || (due, Box::pin(tokio::time::sleep(due.since(now))));
            self.timer.take_if(|(at, _)| *at > due);
            let (_, sleep) = self.timer.get_or_insert_with(alarm);
            if sleep.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            self.timer = None;
            // The throttle time is over: go on with the mailbox.
            context.waker().wake_by_ref();
        }
    }

    fn max_idle(&self) -> Duration {
        let max_idle = self.shared.config.connections_max_idle;
        if self.key.owner == Owner::Check { max_idle.min(CHECK_MAX_IDLE) } else { max_idle }
    }

    /// Fails the requests whose time is up. Returns the error of one of them.
    fn expire(&mut self, now: Instant) -> Option<Error> {
        let mut last = None;
        while let Some(failed) = self.connection.poll_expired(now) {
            last = Some(failed.error.clone());
            self.reply(failed.id, Err(failed.error));
        }
        last
    }

    /// Waits for the responses that are still due on a connection that takes no more requests.
    async fn finish(mut self) {
        if let End::Failed(error) = poll_fn(|context| self.poll(context, None)).await {
            for outgoing in self.fail_all(&error) {
                self.shared.pass_on(self.key, Mail::Request(outgoing), &error);
            }
        }
    }

    /// Notes that the broker may have restarted. If it completed the handshake and then answered nothing, or was found
    /// to be dead, it counts as unreachable.
    fn note_end(&mut self, error: &Error) {
        self.note_silent_use();
        self.again.handle_end(self.shared.now(), self.connection.refusal(error));
        if error.kind() == ErrorKind::Closed {
            return;
        }
        self.shared.lock().refresh.handle_possible_restart(self.shared.now());
        if !self.was_of_use || self.is_dead {
            self.shared.handle_unreachable(self.key, error);
        }
    }

    /// Fails the open requests; returns those that are worth a second attempt on a new connection.
    fn fail_all(&mut self, error: &Error) -> Vec<Outgoing> {
        let is_worth_it = self.was_of_use && !self.is_dead && error.kind() == ErrorKind::Disconnected;
        let now = self.shared.now();
        let mut again = Vec::new();
        for failed in self.connection.fail_all(error) {
            let Some(Waiting { reply, sent_at, again: request }) = self.waiting.remove(&failed.id) else {
                debug_assert!(false, "a request has a second outcome, or was never sent");
                continue;
            };
            let left =
                request.map(|(request, options)| (request, options, options.limit.saturating_sub(now.since(sent_at))));
            match left {
                Some((request, options, limit)) if is_worth_it && !limit.is_zero() => {
                    let options = SendOptions { limit, ..options };
                    again.push(Outgoing { request, options, is_repeated: true, reply });
                }
                _ => drop(reply.send(Err(failed.error))),
            }
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::ready;

    use kavka_core::cluster::Endpoint;
    use kavka_core::config::{ClientConfig, Login};
    use kavka_core::error::Written;
    use kavka_core::secret::Secret;
    use kavka_core::wire::api::encode_response;
    use kavka_core::wire::messages::api_versions::ApiVersion;
    use kavka_core::wire::messages::{
        ApiVersionsResponse, ProduceRequest, ProduceResponse, SaslAuthenticateResponse, SaslHandshakeResponse,
    };
    use kavka_core::wire::{ErrorCode, Message};
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

    use super::super::Network;
    use super::super::sasl::Sasl;
    use super::*;

    struct Refusing;

    impl Network for Refusing {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
        }
    }

    #[test]
    fn a_dial_that_fails_counts_once_however_many_wait_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = ClientConfig::default().bootstrap_servers(vec![("kafka".into(), 9092)]);
            let shared = Arc::new(Switchboard::new(config, Arc::new(Refusing), None, None, 1));
            let endpoint = Endpoint::Bootstrap(0);
            let key = |owner| ConnectionKey { owner, endpoint };
            shared.handle_unreachable(key(Owner::Control), &Error::new(ErrorKind::Disconnected, "gone"));
            let running = [Owner::Control, Owner::Produce(0), Owner::Fetch(1)].map(|owner| {
                let (_, mailbox) = mpsc::unbounded_channel();
                tokio::spawn(run(Arc::clone(&shared), key(owner), mailbox))
            });
            for run in running {
                run.await.unwrap();
            }
            assert_eq!(shared.lock().route.failures(endpoint), 2);
        });
    }

    /// When a broker hangs up.
    #[derive(Clone, Copy, PartialEq)]
    enum HangsUp {
        AtOnce,
        /// After the first request that follows the handshake.
        AfterTheHandshake,
    }

    impl Network for HangsUp {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            let (ours, theirs) = tokio::io::duplex(4096);
            tokio::spawn(self.serve(theirs));
            Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
        }
    }

    impl HangsUp {
        async fn serve(self, mut stream: DuplexStream) {
            if self == Self::AtOnce {
                return;
            }
            tell_versions(&mut stream).await;
            read_frame(&mut stream).await;
        }
    }

    async fn tell_versions(stream: &mut DuplexStream) {
        let api = |key: ApiKey, max_version| ApiVersion { api_key: key as i16, min_version: 0, max_version };
        let api_keys = vec![
            api(ApiKey::ApiVersions, 3),
            api(ApiKey::Produce, 9),
            api(ApiKey::SaslHandshake, 1),
            api(ApiKey::SaslAuthenticate, 2),
        ];
        answer(stream, ApiKey::ApiVersions, &ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }).await;
    }

    /// Reads a request and answers it.
    async fn answer(stream: &mut DuplexStream, key: ApiKey, response: &impl Message) {
        let request = read_frame(stream).await;
        let number = |at: std::ops::Range<usize>| request[at].iter().fold(0, |sum, byte| sum << 8 | i32::from(*byte));
        let answer = encode_response(key, i16::try_from(number(2..4)).unwrap(), number(4..8), response).unwrap();
        stream.write_all(&answer.concat()).await.unwrap();
    }

    async fn read_frame(stream: &mut DuplexStream) -> Vec<u8> {
        let length = stream.read_u32().await.unwrap();
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await.unwrap();
        frame
    }

    const KEY: ConnectionKey = ConnectionKey { owner: Owner::Produce(0), endpoint: Endpoint::Bootstrap(0) };

    /// Sends a produce request with `acks=0`, waits until the connection has ended, and returns what became of it.
    fn produce_unconfirmed(shared: &Arc<Switchboard>) -> Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (sender, mailbox) = mpsc::unbounded_channel();
            let (reply, answer) = oneshot::channel();
            let request = Box::new(ProduceRequest::default());
            let options = SendOptions {
                min_version: 0,
                max_version: i16::MAX,
                is_answered: false,
                limit: Duration::from_secs(60),
                may_fail_early: false,
            };
            sender.send(Mail::Request(Outgoing { request, options, is_repeated: false, reply })).ok().unwrap();
            run(Arc::clone(shared), KEY, mailbox).await;
            answer.await.unwrap()
        })
    }

    fn switchboard(reconnect_backoff_max: Duration, hangs_up: impl Network) -> Arc<Switchboard> {
        let config = ClientConfig::default().bootstrap_servers(vec![("kafka".into(), 9092)]);
        let config = config.reconnect_backoff_max(reconnect_backoff_max);
        Arc::new(Switchboard::new(config, Arc::new(hangs_up), None, None, 1))
    }

    #[test]
    fn a_connection_that_took_unconfirmed_records_for_longer_than_a_back_off_was_of_use() {
        for (reconnect_backoff_max, is_lost) in [(Duration::ZERO, false), (Duration::from_secs(3600), true)] {
            let shared = switchboard(reconnect_backoff_max, HangsUp::AfterTheHandshake);
            let _ = produce_unconfirmed(&shared);
            assert_eq!(!shared.lock().unreachable.is_empty(), is_lost, "{reconnect_backoff_max:?}");
        }
    }

    #[test]
    fn only_a_broker_that_never_spoke_may_want_another_protocol() {
        for has_spoken in [false, true] {
            let shared = switchboard(Duration::from_secs(1), HangsUp::AtOnce);
            if has_spoken {
                shared.handle_opened(KEY);
            }
            let _ = produce_unconfirmed(&shared);
            let error = shared.lock().unreachable[&KEY.endpoint].error.to_string();
            assert_eq!(error.contains("may require TLS"), !has_spoken, "{error}");
        }
    }

    /// A stream that, like TLS, takes what it cannot write at once: all but the first request.
    struct Keeping {
        stream: DuplexStream,
        has_written: bool,
        has_kept: Option<oneshot::Sender<()>>,
    }

    impl AsyncRead for Keeping {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Keeping {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.has_written {
                self.has_kept.take().map(|kept| kept.send(()));
                return Poll::Ready(Ok(bytes.len()));
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
            self.has_written = true;
            Poll::Ready(written)
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.has_written && self.has_kept.is_none() { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A broker that hangs up while the client keeps a request in its own buffer.
    struct Deaf;

    impl Network for Deaf {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            let (stream, mut theirs) = tokio::io::duplex(4096);
            let (has_kept, kept) = oneshot::channel();
            tokio::spawn(async move {
                tell_versions(&mut theirs).await;
                kept.await.unwrap();
            });
            let keeping = Keeping { stream, has_written: false, has_kept: Some(has_kept) };
            Box::pin(async { Ok(Box::new(keeping) as Box<dyn Stream>) })
        }
    }

    #[test]
    fn unconfirmed_records_that_only_our_own_buffer_has_are_not_sent() {
        let error = produce_unconfirmed(&switchboard(Duration::from_secs(1), Deaf)).unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Disconnected, Written::Maybe));
    }

    /// A stream that breaks when a third frame is written, and the broker has answered the first two.
    struct Breaking {
        stream: DuplexStream,
        frames: usize,
        answered: oneshot::Receiver<()>,
    }

    impl AsyncRead for Breaking {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Breaking {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.frames == 2 {
                ready!(Pin::new(&mut self.answered).poll(context)).unwrap();
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.frames += 1;
            Pin::new(&mut self.stream).poll_write(context, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A broker that answers one request, and then hangs up.
    struct AnswersOne;

    impl Network for AnswersOne {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            let (stream, mut theirs) = tokio::io::duplex(4096);
            let (has_answered, answered) = oneshot::channel();
            tokio::spawn(async move {
                tell_versions(&mut theirs).await;
                answer(&mut theirs, ApiKey::Produce, &ProduceResponse::default()).await;
                has_answered.send(()).unwrap();
            });
            Box::pin(async { Ok(Box::new(Breaking { stream, frames: 0, answered }) as Box<dyn Stream>) })
        }
    }

    #[test]
    fn an_answer_that_came_before_writing_failed_counts() {
        let shared = switchboard(Duration::from_secs(1), AnswersOne);
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (sender, mailbox) = mpsc::unbounded_channel();
            let outcomes = [(); 2].map(|()| {
                let (reply, outcome) = oneshot::channel();
                let limit = Duration::from_secs(60);
                let options = SendOptions {
                    min_version: 0,
                    max_version: i16::MAX,
                    is_answered: true,
                    limit,
                    may_fail_early: false,
                };
                let request = Box::new(ProduceRequest::default());
                sender.send(Mail::Request(Outgoing { request, options, is_repeated: false, reply })).ok().unwrap();
                outcome
            });
            run(Arc::clone(&shared), KEY, mailbox).await;
            let [first, second] = outcomes;
            assert_eq!(first.await.unwrap().unwrap().key, ApiKey::Produce);
            let error = second.await.unwrap().unwrap_err();
            assert_eq!((error.kind(), error.written()), (ErrorKind::Disconnected, Written::No));
        });
    }

    /// A broker with three addresses that refuses everybody, and counts how often it is dialled.
    struct Strict(Arc<AtomicUsize>);

    impl Network for Strict {
        fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok((1..=3).map(|last| ([127, 0, 0, last], port).into()).collect()) })
        }

        fn dial<'a>(&'a self, _host: &'a str, _address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                tell_versions(&mut theirs).await;
                let offer = SaslHandshakeResponse { mechanisms: vec!["PLAIN".into()], ..Default::default() };
                answer(&mut theirs, ApiKey::SaslHandshake, &offer).await;
                let error_code = ErrorCode::SASL_AUTHENTICATION_FAILED;
                let refusal = SaslAuthenticateResponse { error_code, ..Default::default() };
                answer(&mut theirs, ApiKey::SaslAuthenticate, &refusal).await;
            });
            Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
        }
    }

    #[test]
    fn credentials_that_were_refused_are_not_tried_on_the_other_addresses_of_the_name() {
        let dials = Arc::new(AtomicUsize::new(0));
        let network: Arc<dyn Network> = Arc::new(Strict(Arc::clone(&dials)));
        let settings = kavka_core::config::Sasl::Plain(Login::new("alice", Secret::new("wrong")));
        let sasl = Sasl::new(settings, None, &network, Duration::from_secs(60)).unwrap();
        let shared = switchboard(Duration::from_secs(1), Strict(Arc::clone(&dials)));
        let shared = Arc::new(Arc::into_inner(shared).unwrap().with_sasl(Some(sasl)));
        let error = produce_unconfirmed(&shared).unwrap_err();
        assert_eq!((error.kind(), dials.load(Ordering::SeqCst)), (ErrorKind::Authentication, 1));
    }
}
