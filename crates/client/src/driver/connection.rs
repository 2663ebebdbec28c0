//! The task of one connection: it moves bytes between a socket and [`link::Connection`].
//!
//! It dials, waits for the handshake, then serves its mailbox until the connection ends; every
//! request that reached the mailbox is answered or failed. It decides nothing that Kafka defines.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use kavka_core::error::{Error, ErrorKind, Phase, Place, Result};
use kavka_core::link::{Answer, Connection, ConnectionConfig, RequestId, SendOptions};
use kavka_core::time::Instant;
use kavka_core::wire::{AnyRequest, ApiKey};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, timeout};

use super::network::Stream;
use super::{ConnectionKey, Switchboard, WireEvent};

/// How many segments one write takes at the most.
const SEGMENTS_PER_WRITE: usize = 64;

/// How long a dial may take before another one is begun beside it.
const DIAL_AGAIN: Duration = Duration::from_secs(1);

/// How many reads are done before other tasks get their turn.
const READS_PER_TURN: usize = 16;

/// What can be put into a connection's mailbox.
pub(super) enum Mail {
    Request(Outgoing),
    /// Tells the newest common version of an API, once the handshake is done.
    Version(ApiKey, oneshot::Sender<Result<i16>>),
    /// The broker asked for a pause, in milliseconds.
    Throttle(i32),
}

pub(super) struct Outgoing {
    pub(super) request: Box<dyn AnyRequest>,
    pub(super) options: SendOptions,
    /// Whether it was sent before, over a connection that died.
    pub(super) is_repeated: bool,
    pub(super) reply: oneshot::Sender<Result<Answer>>,
}

/// A request that waits for its answer.
struct Waiting {
    reply: oneshot::Sender<Result<Answer>>,
    sent_at: Instant,
    /// The request, if it may be sent once more.
    again: Option<(Box<dyn AnyRequest>, SendOptions)>,
}

/// How a connection ended.
enum End {
    /// Nobody had used it for long. It is forgotten already, and its mailbox is empty.
    Idle,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Mail {
    pub(super) fn fail(self, error: &Error) {
        // A sender that no longer waits is no error: it gave up first.
        match self {
            Self::Request(outgoing) => drop(outgoing.reply.send(Err(error.clone()))),
            Self::Version(_, reply) => drop(reply.send(Err(error.clone()))),
            Self::Throttle(_) => {}
        }
    }
}

/// Dials `key` and serves `mailbox` until the connection ends. What may be sent twice is sent once more over a new
/// connection if the old one, which had been of use, turns out to be dead.
pub(super) async fn run(shared: Arc<Switchboard>, key: ConnectionKey, mut mailbox: mpsc::UnboundedReceiver<Mail>) {
    let mut again: Vec<Outgoing> = Vec::new();
    let error = loop {
        let (connection, stream) = match open(&shared, key).await {
            Ok(opened) => opened,
            Err(error) => break error,
        };
        shared.handle_opened(key);
        let mut task = Task::new(&shared, key, connection, stream, mailbox);
        for outgoing in again.drain(..) {
            task.send(outgoing);
        }
        let End::Failed(error) = poll_fn(|context| task.poll(context)).await else { return };
        again = task.fail_all(&error);
        // A broker that shakes hands and then hangs up is as good as one that cannot be reached.
        if !task.was_of_use && error.kind() != ErrorKind::Closed {
            shared.handle_unreachable(key, &error);
        }
        mailbox = task.mailbox;
        if again.is_empty() {
            break error;
        }
    };
    // Forgotten first: once the mailbox is closed, a sender may put another connection in its place.
    shared.forget(key);
    mailbox.close();
    for outgoing in again {
        Mail::Request(outgoing).fail(&error);
    }
    while let Some(mail) = mailbox.recv().await {
        mail.fail(&error);
    }
}

async fn open(shared: &Switchboard, key: ConnectionKey) -> Result<(Connection, Box<dyn Stream>)> {
    // If that ends with the failed dial of another connection, it was reported, and counts once.
    wait_for_turn(shared, key).await?;
    set_up(shared, key).await.inspect_err(|error| shared.handle_unreachable(key, error))
}

async fn set_up(shared: &Switchboard, key: ConnectionKey) -> Result<(Connection, Box<dyn Stream>)> {
    let (host, port) = shared.address(key)?;
    let place =
        Place { address: Some(format!("{host}:{port}").into()), broker_id: key.broker_id(), ..Place::default() };
    let limit = shared.config.connection_setup_timeout;
    let started = shared.now();
    let mut last_error = None;
    let trying = async {
        let addresses = shared.network.resolve(&host, port).await.map_err(|cause| {
            Error::new(ErrorKind::Disconnected, "the broker's name cannot be resolved")
                .at(place.clone())
                .with_source(cause)
        })?;
        let mut untried = addresses.len() as u32;
        for address in addresses {
            // One address that swallows packets must leave time for the others.
            let share = limit.saturating_sub(shared.now().since(started)) / untried.max(1);
            untried -= 1;
            match timeout(share, shake_hands(shared, &host, address, &place)).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => last_error = Some(error),
                Err(_) => last_error = Some(set_up_timed_out(&place)),
            }
        }
        let none = || Error::new(ErrorKind::Disconnected, "the broker's name has no address").at(place.clone());
        Err(last_error.clone().unwrap_or_else(none))
    };
    match timeout(limit, trying).await {
        Ok(opened) => opened,
        Err(_) => Err(last_error.unwrap_or_else(|| set_up_timed_out(&place))),
    }
}

/// Waits until the broker may be dialled. It is over early if another connection's dial fails meanwhile, with its error.
async fn wait_for_turn(shared: &Switchboard, key: ConnectionKey) -> Result<()> {
    let mut dialled = shared.dialled.subscribe();
    let before = shared.lock().route.failures(key.endpoint);
    loop {
        let now = shared.now();
        let wait = {
            let mut state = shared.lock();
            if state.route.failures(key.endpoint) > before
                && let Some(away) = state.unreachable.get(&key.endpoint)
            {
                return Err(away.error.clone());
            }
            match state.route.begin_dial(now, key.endpoint, shared.config.connection_setup_timeout) {
                Some(at) => at.since(now),
                None => return Ok(()),
            }
        };
        // Its sender lives as long as `shared`, so there is either news or time.
        drop(timeout(wait, dialled.changed()).await);
    }
}

fn set_up_timed_out(place: &Place) -> Error {
    Error::new(ErrorKind::TimedOut(Phase::Connect), format!("no answer while {}", Phase::Connect))
        .at(place.clone())
        .with_hint("the peer accepts connections but says nothing, or packets to it are lost: is it a Kafka broker?")
}

async fn shake_hands(
    shared: &Switchboard,
    host: &str,
    address: SocketAddr,
    place: &Place,
) -> Result<(Connection, Box<dyn Stream>)> {
    let mut stream = dial(shared, host, address).await.map_err(|cause| {
        Error::new(ErrorKind::Disconnected, "the broker cannot be reached").at(place.clone()).with_source(cause)
    })?;
    let config = ConnectionConfig {
        client_id: shared.config.client_id.clone(),
        max_response_bytes: shared.config.max_response_bytes,
        place: place.clone(),
    };
    let mut connection = Connection::new(config, shared.read_pool.clone())?;
    let mut answers = Vec::new();
    poll_fn(|context| {
        while !connection.is_ready() {
            let now = shared.now();
            write_output(now, &mut connection, &mut stream, context)?;
            ready!(read_once(now, &mut connection, &mut stream, &mut answers, context))?;
        }
        Poll::Ready(Ok(()))
    })
    .await
    .map(|()| (connection, stream))
}

/// Dials until there is an outcome, and every second anew beside the first dial: a kernel whose first packet was lost
/// waits for longer and longer before it sends the next one, and the machine may be back by then.
async fn dial(shared: &Switchboard, host: &str, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
    let mut dials = vec![shared.network.dial(host, address)];
    let mut again = std::pin::pin!(tokio::time::sleep(DIAL_AGAIN));
    poll_fn(|context| {
        loop {
            if let Some(outcome) = dials.iter_mut().find_map(|dial| match dial.as_mut().poll(context) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            }) {
                return Poll::Ready(outcome);
            }
            ready!(again.as_mut().poll(context));
            again.as_mut().reset(tokio::time::Instant::now() + DIAL_AGAIN);
            dials.truncate(1);
            dials.push(shared.network.dial(host, address));
        }
    })
    .await
}

/// Writes what it can. Says whether anything was written.
fn write_output(
    now: Instant,
    connection: &mut Connection,
    stream: &mut Box<dyn Stream>,
    context: &mut Context<'_>,
) -> Result<bool> {
    let mut progress = false;
    while connection.has_output() {
        let slices: Vec<IoSlice<'_>> =
            connection.output().take(SEGMENTS_PER_WRITE).map(|segment| IoSlice::new(segment)).collect();
        match Pin::new(&mut *stream).poll_write_vectored(context, &slices) {
            Poll::Ready(Ok(0)) => return Err(connection.handle_closed(None)),
            Poll::Ready(Ok(bytes)) => connection.handle_written(now, bytes),
            Poll::Ready(Err(cause)) => return Err(connection.handle_closed(Some(cause))),
            Poll::Pending => break,
        }
        progress = true;
    }
    Ok(progress)
}

fn read_once(
    now: Instant,
    connection: &mut Connection,
    stream: &mut Box<dyn Stream>,
    answers: &mut Vec<Answer>,
    context: &mut Context<'_>,
) -> Poll<Result<()>> {
    let mut buffer = ReadBuf::new(connection.space());
    let read = ready!(Pin::new(stream).poll_read(context, &mut buffer));
    let bytes = buffer.filled().len();
    Poll::Ready(match read {
        Ok(()) if bytes == 0 => Err(connection.handle_closed(None)),
        Ok(()) => connection.handle_read(now, bytes, answers),
        Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(cause) => Err(connection.handle_closed(Some(cause))),
    })
}

struct Task<'a> {
    shared: &'a Switchboard,
    key: ConnectionKey,
    connection: Connection,
    stream: Box<dyn Stream>,
    mailbox: mpsc::UnboundedReceiver<Mail>,
    waiting: HashMap<RequestId, Waiting>,
    next_id: u64,
    answers: Vec<Answer>,
    /// Whether the broker answered a request.
    was_of_use: bool,
    /// Fires no later than the first deadline; often earlier, which only costs a look.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<'a> Task<'a> {
    fn new(
        shared: &'a Switchboard,
        key: ConnectionKey,
        connection: Connection,
        stream: Box<dyn Stream>,
        mailbox: mpsc::UnboundedReceiver<Mail>,
    ) -> Self {
        Self {
            shared,
            key,
            connection,
            stream,
            mailbox,
            waiting: HashMap::new(),
            next_id: 0,
            answers: Vec::new(),
            was_of_use: false,
            timer: None,
        }
    }

    /// Ready when the connection has ended, with the reason.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        match self.try_poll(context) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    fn try_poll(&mut self, context: &mut Context<'_>) -> std::result::Result<(), End> {
        loop {
            let mut progress = self.poll_mailbox(context)?;
            progress |= write_output(self.shared.now(), &mut self.connection, &mut self.stream, context)?;
            self.hand_out_unanswered();
            progress |= self.poll_read(context)?;
            if !progress {
                return self.poll_timer(context);
            }
        }
    }

    fn poll_mailbox(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let mut progress = false;
        while self.connection.throttled_until(self.shared.now()).is_none() {
            match self.mailbox.poll_recv(context) {
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
            // What was answered before the connection broke counts.
            let mut answers = std::mem::take(&mut self.answers);
            if !self.was_of_use && !answers.is_empty() {
                self.was_of_use = true;
                self.shared.handle_reached(self.key);
            }
            answers.drain(..).for_each(|answer| self.hand_out(answer));
            self.answers = answers;
            match read {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(progress),
            }
            progress = true;
        }
        context.waker().wake_by_ref();
        Ok(false)
    }

    fn hand_out_unanswered(&mut self) {
        while let Some(answer) = self.connection.poll_unanswered(self.shared.now()) {
            self.hand_out(answer);
        }
    }

    fn hand_out(&mut self, answer: Answer) {
        if let Some(tap) = &self.shared.tap {
            let body = answer.body.clone();
            tap(&WireEvent::Received { key: answer.key, version: answer.version, body });
        }
        if let Some(waiting) = self.waiting.remove(&answer.id) {
            drop(waiting.reply.send(Ok(answer)));
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> std::result::Result<(), End> {
        loop {
            let now = self.shared.now();
            if let Some(error) = self.connection.handle_timeout(now) {
                return Err(error.into());
            }
            let throttled_until = self.connection.throttled_until(now);
            // Mail may wait for the end of a throttle.
            let idle_since = self.connection.idle_since().filter(|_| throttled_until.is_none());
            let idle_until = idle_since.map(|since| since + self.shared.config.connections_max_idle);
            if idle_until.is_some_and(|until| until <= now) && self.shared.forget_unused(self.key, &self.mailbox) {
                return Err(End::Idle);
            }
            let timeout = self.connection.poll_timeout().or(idle_until);
            let due = timeout.into_iter().chain(throttled_until).min();
            let Some(due) = due else { return Ok(()) };
            if self.timer.as_ref().is_none_or(|(at, _)| *at > due) {
                self.timer = Some((due, Box::pin(tokio::time::sleep(due.since(now)))));
            }
            let Some((_, sleep)) = &mut self.timer else { return Ok(()) };
            if sleep.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            self.timer = None;
            // The end of a throttle lets the mailbox go on.
            context.waker().wake_by_ref();
        }
    }

    /// Fails what is not answered, and gives back what is worth a second attempt over a new connection.
    fn fail_all(&mut self, error: &Error) -> Vec<Outgoing> {
        let is_worth_it = self.was_of_use && error.kind() == ErrorKind::Disconnected;
        let now = self.shared.now();
        let mut again = Vec::new();
        for failed in self.connection.fail_all(error) {
            let Some(Waiting { reply, sent_at, again: request }) = self.waiting.remove(&failed.id) else { continue };
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
    use kavka_core::cluster::{Endpoint, Owner};
    use kavka_core::config::ClientConfig;

    use super::super::{BoxFuture, Network};
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
            let shared = Arc::new(Switchboard::new(config, Arc::new(Refusing), None, 1));
            let endpoint = Endpoint::Bootstrap(0);
            let key = |owner| ConnectionKey { owner, endpoint };
            shared.handle_unreachable(key(Owner::Control), &Error::new(ErrorKind::Disconnected, "gone"));
            let running = [Owner::Control, Owner::Produce, Owner::Fetch(1)].map(|owner| {
                let (_, mailbox) = mpsc::unbounded_channel();
                tokio::spawn(run(Arc::clone(&shared), key(owner), mailbox))
            });
            for run in running {
                run.await.unwrap();
            }
            assert_eq!(shared.lock().route.failures(endpoint), 2);
        });
    }
}
