//! One connection: handshake, negotiated versions, requests in flight, responses.
//!
//! The driver opens the socket, passes in the bytes it reads and writes the bytes it is given. The sender of a request
//! chooses its [`RequestId`]; every request passed in comes out exactly once, answered or failed. A response is matched
//! by its correlation id, in order: a broker answers the requests of a connection strictly in order, so any other id
//! means that the stream is corrupt, and the connection is closed.
//!
//! Because of that order, the time limit of a request starts again with every answer on its connection: waiting behind
//! requests that are answered never counts against it. A request whose time is up fails for its sender alone. Its place
//! in the order is kept, and an answer that comes too late is dropped. The connection ends when the time of all is up.
//!
//! A connection that [keeps the order](ConnectionConfig::keeps_order) lets an overdue request wait instead, for as long
//! as another one is in time: sent again behind itself, it could not be answered any sooner.
//!
//! While a request waits and nothing is heard, the driver is asked to look elsewhere for a sign that the broker still
//! works ([`poll_check`](Connection::poll_check)). A frozen broker is found out like that, long before the time of its
//! requests is up, and is not mistaken for one that has a reason to make them wait.
//!
//! Requests can be sent only after the [handshake](super::handshake), and not while the connection authenticates again.
//! A broker before Kafka 0.10 closes the connection in the handshake, or says nothing; a [probe](super::Greeting) on
//! another connection then finds out what it is.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroize;

use crate::error::{Error, ErrorKind, Hint, Place, Result, Written};
use crate::link::frames::{FrameReader, ReadPool};
use crate::link::handshake::{Handshake, Step, versions_request};
use crate::link::old_broker::{Greeting, harmless_request};
use crate::link::request::{Answer, Failed, InFlight, RequestId, SendOptions, no_response};
use crate::link::sasl::{Credentials, Work, Worked};
use crate::link::versions::ApiVersions;
use crate::time::Instant;
use crate::wire::api::{ApiKey, encode_request};
use crate::wire::message::{AnyRequest, Message as _};
use crate::wire::messages::ApiVersionsRequest;
use crate::wire::primitives::Decoder;

/// The longest response accepted during the handshake.
const MAX_HANDSHAKE_FRAME_BYTES: usize = 64 << 10;

/// A broker's throttle time is cut to this.
const MAX_THROTTLE: Duration = Duration::from_secs(30);

/// After this long without traffic a connection is doubtful: a NAT or a firewall may have dropped its state.
const QUIET: Duration = Duration::from_secs(30);

/// The longest time that a doubtful connection gets for its first sign of life.
const MAX_DOUBT: Duration = Duration::from_secs(5);

/// The settings of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// Kafka: `client.id`.
    pub client_id: String,
    /// A longer response is refused before it is read.
    pub max_response_bytes: usize,
    /// The broker's id, if known, and its `host:port`, for error messages.
    pub place: Place,
    /// Whether the broker completed a handshake on an earlier connection, so that its port is not one for TLS or SASL.
    pub has_spoken: bool,
    /// How it begins.
    pub greeting: Greeting,
    /// Whether its requests must be executed in the order in which they were sent, so that none may go over another
    /// connection while an earlier one is open.
    pub keeps_order: bool,
    /// How long a new authentication of the open connection may take while nothing is answered.
    pub authentication_limit: Duration,
    /// The share of a session after which new credentials are asked for, from 85 to 95 so that connections do not all
    /// ask at once (KIP-368).
    pub session_percent: u32,
}

/// The state of one connection.
pub struct Connection {
    config: ConnectionConfig,
    handshake: Handshake,
    reader: FrameReader,
    frames: Vec<Bytes>,
    in_flight: VecDeque<InFlight>,
    next_correlation_id: i32,
    queued_bytes: u64,
    sent_bytes: u64,
    output: VecDeque<Bytes>,
    throttled_until: Instant,
    /// When bytes were last read or written.
    last_used: Instant,
    last_written: Instant,
    last_answered: Instant,
    /// When bytes were last read, or the broker was last seen to work on another connection.
    last_alive: Instant,
    /// Whether the broker is being checked on another connection, and nothing was read here since.
    is_checked: bool,
    /// When a doubtful connection counts as dead; `None` if it is not doubtful, or has shown a sign of life.
    doubted_until: Option<Instant>,
    /// Requests that the broker does not answer.
    unanswered: VecDeque<InFlight>,
    /// Whether a request was answered that is not part of the handshake.
    has_answered: bool,
}

/// Leaves out the bytes to send, which may be credentials.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, handshake, in_flight, .. } = self;
        let mut debug = f.debug_struct("Connection");
        debug.field("config", config).field("handshake", handshake).field("in_flight", in_flight);
        debug.finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection whose first output is an `ApiVersions` request, unless the broker is known to be without it, and
    /// which authenticates itself if it has credentials. The caller limits the time of the handshake.
    pub fn new(config: ConnectionConfig, credentials: Option<Credentials>, pool: ReadPool) -> Result<Self> {
        let (handshake, first) = Handshake::begin(config.greeting, credentials, config.session_percent);
        let mut connection = Self {
            config,
            handshake,
            reader: FrameReader::new(pool, MAX_HANDSHAKE_FRAME_BYTES),
            frames: Vec::new(),
            in_flight: VecDeque::new(),
            next_correlation_id: 0,
            queued_bytes: 0,
            sent_bytes: 0,
            output: VecDeque::new(),
            throttled_until: Instant(0),
            last_used: Instant(0),
            last_written: Instant(0),
            last_answered: Instant(0),
            last_alive: Instant(0),
            is_checked: false,
            doubted_until: None,
            unanswered: VecDeque::new(),
            has_answered: false,
        };
        connection.go_on(Instant(0), first)?;
        Ok(connection)
    }

    /// Sends the next message of the handshake, or begins to take requests if the handshake is complete.
    fn go_on(&mut self, now: Instant, step: Option<Step>) -> Result<()> {
        if self.is_ready() {
            self.reader.set_max_frame_bytes(self.config.max_response_bytes);
        }
        match step {
            Some(Step::Request(request, version)) => {
                let first = self.output.len();
                self.queue(now, None, request.as_ref(), version, Duration::MAX)?;
                self.output.range_mut(first..).for_each(wipe_when_dropped);
            }
            Some(Step::Bare(message)) => {
                let size = i32::try_from(message.len()).unwrap_or(i32::MAX).to_be_bytes();
                let mut frame = Bytes::from([&size, message.as_slice()].concat());
                wipe_when_dropped(&mut frame);
                self.note_queued(now, None, (ApiKey::SaslAuthenticate, 0), None, Duration::MAX, vec![frame]);
            }
            None => {}
        }
        Ok(())
    }

    /// How to begin on another connection, after the broker has closed this one during its handshake: a broker without
    /// `ApiVersions` may do that. `None`: in the same way.
    pub fn after_hang_up(&self) -> Option<Greeting> {
        self.handshake.after_hang_up()
    }

    /// Whether requests may be sent: the handshake is complete, and no new authentication is under way.
    pub fn is_ready(&self) -> bool {
        self.handshake.is_ready()
    }

    /// The versions that the broker supports, once the handshake is complete.
    pub fn versions(&self) -> Option<&ApiVersions> {
        self.handshake.versions()
    }

    /// A step of the authentication that may take long. Its outcome goes to [`handle_worked`](Self::handle_worked).
    pub fn poll_work(&mut self) -> Option<Work> {
        self.handshake.poll_work()
    }

    /// Takes the outcome of a step of the authentication.
    ///
    /// After an error the connection is unusable: close it and call [`fail_all`](Self::fail_all).
    pub fn handle_worked(&mut self, now: Instant, worked: Worked) -> Result<()> {
        let step = self.handshake.handle_worked(worked).map_err(|error| self.unauthenticated(error))?;
        self.go_on(now, step)
    }

    /// Whether the session is about to end, so that new credentials are wanted for
    /// [`reauthenticate`](Self::reauthenticate) (KIP-368). True once, and then again every second or less often.
    pub fn poll_reauthentication(&mut self, now: Instant) -> bool {
        self.handshake.poll_reauthentication(now)
    }

    /// Authenticates the open connection again. Until that is complete, it takes no requests.
    pub fn reauthenticate(&mut self, now: Instant, credentials: Credentials) -> Result<()> {
        debug_assert!(self.is_ready(), "the connection authenticates itself already");
        let step = self.handshake.reauthenticate(now, credentials).map_err(|error| self.unauthenticated(error))?;
        self.go_on(now, Some(step))
    }

    /// The error of a failed authentication. If the broker accepted earlier credentials, the requests in flight may
    /// well succeed on a new connection, which says for good whether the present ones are right.
    pub fn unauthenticated(&self, error: Error) -> Error {
        let error = error.at(self.config.place.clone());
        match self.handshake.again_since() {
            Some(_) => Error::new(ErrorKind::Disconnected, "the connection could not be authenticated again")
                .at(self.config.place.clone())
                .with_source(error),
            None => error,
        }
    }

    /// Queues a request, in the newest version that both sides support and that `options` allow. Returns that version.
    ///
    /// A request that the broker does not answer (a produce request with `acks=0`) comes back from
    /// [`poll_unanswered`](Self::poll_unanswered) once its last byte was written. After an error nothing is queued, and
    /// the connection is still usable.
    pub fn send(&mut self, now: Instant, id: RequestId, request: &dyn AnyRequest, options: SendOptions) -> Result<i16> {
        let not_ready = || Error::new(ErrorKind::Disconnected, "the connection is not set up, or authenticates itself");
        let ours = request.versions();
        let version = self
            .versions()
            .filter(|_| self.is_ready())
            .ok_or_else(not_ready)?
            .choose(request.key(), (options.min_version.max(*ours.start()), options.max_version.min(*ours.end())))
            .map_err(|error| error.at(self.config.place.clone()))?;
        if self.idle_since().is_some_and(|since| now.since(since) >= QUIET) {
            self.doubt(now, request.key(), options.limit)?;
        }
        self.queue(now, Some(id), request, version, options.limit)?;
        if let Some(request) = self.in_flight.back_mut() {
            request.may_fail_early = options.may_fail_early;
        }
        if !options.is_answered
            && let Some(request) = self.in_flight.pop_back()
        {
            self.unanswered.push_back(request);
        }
        Ok(version)
    }

    /// Gives a doubtful connection little time to prove that it works. The answer to a request that may be repeated is
    /// proof enough. Any other request may take long, so a probe goes ahead of it, which every broker answers at once.
    fn doubt(&mut self, now: Instant, key: ApiKey, limit: Duration) -> Result<()> {
        if !key.is_repeatable() {
            let (oldest, newest) = (ApiVersionsRequest::MIN_VERSION, ApiVersionsRequest::MAX_VERSION);
            if self.versions().is_some_and(ApiVersions::is_assumed) {
                self.queue(now, None, harmless_request().as_ref(), 0, limit)?;
            } else {
                // A broker that does not list this API has answered it all the same, in the handshake.
                let chosen = self.versions().and_then(|known| known.choose(ApiKey::ApiVersions, (oldest, newest)).ok());
                self.queue(now, None, &versions_request(), chosen.unwrap_or(oldest), limit)?;
            }
        }
        self.doubted_until = Some(now + (limit / 3).min(MAX_DOUBT));
        Ok(())
    }

    fn queue(
        &mut self,
        now: Instant,
        id: Option<RequestId>,
        request: &dyn AnyRequest,
        version: i16,
        limit: Duration,
    ) -> Result<()> {
        let correlation_id = self.next_correlation_id;
        let segments = encode_request(request, version, correlation_id, Some(&self.config.client_id))
            .map_err(|error| Error::from(error).at(self.config.place.clone()))?;
        self.next_correlation_id = correlation_id.checked_add(1).unwrap_or(0);
        self.note_queued(now, id, (request.key(), version), Some(correlation_id), limit, segments);
        Ok(())
    }

    fn note_queued(
        &mut self,
        now: Instant,
        id: Option<RequestId>,
        (key, version): (ApiKey, i16),
        correlation_id: Option<i32>,
        limit: Duration,
        segments: Vec<Bytes>,
    ) {
        let starts_at = self.queued_bytes;
        let ends_at = starts_at + segments.iter().map(|segment| segment.len() as u64).sum::<u64>();
        self.queued_bytes = ends_at;
        self.output.extend(segments);
        let (queued_at, may_fail_early) = (now, false);
        let request =
            InFlight { id, key, version, correlation_id, limit, may_fail_early, queued_at, starts_at, ends_at };
        self.in_flight.push_back(request);
    }

    /// A request that the broker does not answer and whose last byte was written, with an empty response.
    pub fn poll_unanswered(&mut self) -> Option<Answer> {
        let sent = self.sent_bytes;
        if self.unanswered.front()?.ends_at > sent {
            return None;
        }
        let request = self.unanswered.pop_front()?;
        Some(Answer { id: request.id?, key: request.key, version: request.version, body: Bytes::new() })
    }

    /// The segments to write next, in order.
    pub fn output(&self) -> impl Iterator<Item = &Bytes> {
        self.output.iter()
    }

    /// Whether there is anything to write.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Notes that the first `bytes` bytes of the output were written.
    pub fn handle_written(&mut self, now: Instant, mut bytes: usize) {
        self.sent_bytes += bytes as u64;
        self.note_use(now);
        self.last_written = now;
        while let Some(front) = self.output.front_mut() {
            if front.len() > bytes {
                let _ = front.split_to(bytes);
                return;
            }
            bytes -= front.len();
            self.output.pop_front();
        }
    }

    /// An idle connection stays idle while it authenticates again.
    fn note_use(&mut self, now: Instant) {
        if self.handshake.again_since().is_none() {
            self.last_used = now;
        }
    }

    /// The buffer for the next bytes from the socket.
    pub fn space(&mut self) -> &mut [u8] {
        self.reader.space()
    }

    /// Notes that `bytes` bytes were read into [`space`](Self::space), and appends the responses that are now complete.
    ///
    /// After an error the connection is unusable: close it and call [`fail_all`](Self::fail_all).
    pub fn handle_read(&mut self, now: Instant, bytes: usize, answers: &mut Vec<Answer>) -> Result<()> {
        self.note_use(now);
        self.doubted_until = None;
        self.handle_alive(now);
        let mut frames = std::mem::take(&mut self.frames);
        let read = self.reader.handle_read(bytes, &mut frames);
        if !frames.is_empty() {
            self.last_answered = now;
        }
        let handled = frames.drain(..).try_for_each(|frame| self.handle_frame(now, frame, answers));
        self.frames = frames;
        handled.and(read).map_err(|error| error.at(self.config.place.clone()))
    }

    fn handle_frame(&mut self, now: Instant, frame: Bytes, answers: &mut Vec<Answer>) -> Result<()> {
        let Some(request) = self.in_flight.front() else {
            return Err(Error::new(ErrorKind::Malformed, "the broker sent a response without a request"));
        };
        let mut decoder = Decoder::from(frame);
        if let Some(expected) = request.correlation_id {
            let correlation_id = i32::from_be_bytes(decoder.array()?);
            if correlation_id != expected {
                let why = format!("the broker answered request {correlation_id} when {expected} was next");
                return Err(Error::new(ErrorKind::Malformed, why));
            }
            request.key.skip_response_header(request.version, &mut decoder)?;
        }
        let (id, key, version, sent_at) = (request.id, request.key, request.version, request.queued_at);
        let (is_bare, body) = (request.correlation_id.is_none(), decoder.into_rest());
        self.in_flight.pop_front();
        if let Some(id) = id {
            self.has_answered = true;
            answers.push(Answer { id, key, version, body });
        } else if self.handshake.awaits(key) {
            let step = self.handshake.handle_answer(sent_at, (!is_bare).then_some(version), body);
            let step = step.map_err(|error| self.unauthenticated(error))?;
            self.go_on(now, step)?;
        }
        Ok(())
    }

    /// Notes the throttle time of a response (KIP-219). A negative time counts as none.
    pub fn handle_throttle(&mut self, now: Instant, throttle_time_ms: i32) {
        let wait = Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0)).min(MAX_THROTTLE);
        self.throttled_until = self.throttled_until.max(now + wait);
    }

    /// When the next request may be sent, if the broker throttles this client at `now`.
    pub fn throttled_until(&self, now: Instant) -> Option<Instant> {
        (self.throttled_until > now).then_some(self.throttled_until)
    }

    /// The requests that somebody waits for, each with the time at which its limit started: when it was queued, or at
    /// the connection's last answer if that was later. For a request without a response, the last write counts instead.
    fn waiting(&self) -> impl Iterator<Item = (&InFlight, Instant)> {
        let answered = self.in_flight.iter().filter(|request| request.id.is_some());
        let answered = answered.map(|request| (request, request.queued_at.max(self.last_answered)));
        let unanswered = self.unanswered.iter();
        answered.chain(unanswered.map(|request| (request, request.queued_at.max(self.last_written))))
    }

    /// The request that has waited longest, and when the time of all that wait is up.
    fn all_overdue(&self) -> Option<(&InFlight, Instant)> {
        let (first, since) = self.waiting().min_by_key(|(_, since)| *since)?;
        let ends_at = if self.config.keeps_order {
            // Requests that join the line later do not prolong this, or a dead connection would never end.
            since + self.waiting().map(|(request, _)| request.limit).max()?
        } else {
            self.waiting().map(|(request, since)| since + request.limit).max()?
        };
        Some((first, ends_at))
    }

    /// The index in `in_flight` of the request whose time is up first, and when that is.
    fn next_expiry(&self) -> Option<(usize, Instant)> {
        if self.config.keeps_order {
            return None;
        }
        let waiting = self.in_flight.iter().enumerate().filter(|(_, request)| request.id.is_some());
        let due = |request: &InFlight| request.queued_at.max(self.last_answered) + request.limit;
        waiting.map(|(at, request)| (at, due(request))).min_by_key(|(_, due)| *due)
    }

    /// Fails a request whose time is up at `now`, while others are still in time. Send nothing more on the connection
    /// after that: the answer to another request would come even later.
    pub fn poll_expired(&mut self, now: Instant) -> Option<Failed> {
        let (at, _) = self.next_expiry().filter(|(_, due)| *due <= now)?;
        let request = self.in_flight.get_mut(at)?;
        let id = request.id.take()?;
        let error = no_response(&self.config.place, request);
        // If it is not written yet, it still will be.
        let error = if request.key == ApiKey::Produce { error.with_written(Written::Maybe) } else { error };
        Some(Failed { id, error })
    }

    /// When the broker is to be checked on another connection, and how long that may take. `None` while it is checked,
    /// or while a request waits that must not fail early.
    fn next_check(&self) -> Option<(Instant, Duration)> {
        let (mut since, mut silence) = (None, Duration::ZERO);
        for (request, _) in self.waiting().filter(|_| !self.is_checked) {
            if !request.may_fail_early {
                return None;
            }
            since.get_or_insert(request.queued_at.max(self.last_alive).max(self.throttled_until));
            silence = silence.max(request.longest_silence());
        }
        Some((since? + silence, silence))
    }

    /// Whether the driver must ask the broker for something on another connection, because nothing was heard here for a
    /// while; returns how long the answer may take. The outcome goes to [`handle_alive`](Self::handle_alive) or
    /// [`handle_dead`](Self::handle_dead).
    pub fn poll_check(&mut self, now: Instant) -> Option<Duration> {
        let (_, silence) = self.next_check().filter(|(at, _)| *at <= now)?;
        self.is_checked = true;
        Some(silence)
    }

    /// The broker, asked on another connection, has answered: it has a reason to let the requests here wait.
    pub fn handle_alive(&mut self, now: Instant) {
        self.last_alive = now;
        self.is_checked = false;
    }

    /// The broker has not answered on another connection either. Returns the error to close this one with, unless it
    /// has shown a sign of life since the check began.
    pub fn handle_dead(&self) -> Option<Error> {
        let what = "the broker answers neither this connection nor a new one: it is frozen, or cut off";
        self.is_checked.then(|| Error::new(ErrorKind::Disconnected, what).at(self.config.place.clone()))
    }

    /// Since when the connection is idle; `None` while anything is in flight.
    pub fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.in_flight.is_empty() && self.unanswered.is_empty() && self.output.is_empty();
        let is_idle = is_idle && self.is_ready();
        is_idle.then_some(self.last_used)
    }

    /// When a new authentication that makes no progress has failed.
    fn unauthenticated_at(&self) -> Option<Instant> {
        let since = self.handshake.again_since()?;
        Some(since.max(self.last_answered) + self.config.authentication_limit)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), [`poll_expired`](Self::poll_expired),
    /// [`poll_check`](Self::poll_check) and [`poll_reauthentication`](Self::poll_reauthentication).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends_at = self.all_overdue().map(|(_, at)| at);
        let expires_at = self.next_expiry().map(|(_, at)| at);
        let check_at = self.next_check().map(|(at, _)| at);
        let session = self.handshake.session().map(|(ask_at, ends_at)| ask_at.min(ends_at));
        let others = [self.doubted_until, self.unauthenticated_at(), session];
        [ends_at, expires_at, check_at].into_iter().chain(others).flatten().min()
    }

    /// The error to close the connection with, if every request is overdue at `now`: none was answered, or, if they
    /// have no response, not written.
    ///
    /// A doubtful connection without a sign of life fails earlier. It has most likely been dead all the time, and a
    /// request that is safe to repeat has a better chance on a new connection.
    pub fn handle_timeout(&self, now: Instant) -> Option<Error> {
        if self.doubted_until.is_some_and(|until| until <= now) {
            let what = "the broker did not respond on a connection that had been idle";
            return Some(Error::new(ErrorKind::Disconnected, what).at(self.config.place.clone()));
        }
        let disconnected = |what| Some(Error::new(ErrorKind::Disconnected, what).at(self.config.place.clone()));
        if self.unauthenticated_at().is_some_and(|at| at <= now) {
            return disconnected("the broker did not respond while the connection authenticated itself again");
        }
        if self.handshake.session().is_some_and(|(_, ends_at)| ends_at <= now) {
            return disconnected("the session ended before there were new credentials");
        }
        let (overdue, _) = self.all_overdue().filter(|(_, ends_at)| *ends_at <= now)?;
        Some(no_response(&self.config.place, overdue))
    }

    /// The error for a closed connection. It has a hint if the peer has not answered a request on it. A cause that is
    /// an [`Error`] already explains why TLS failed.
    pub fn handle_closed(&self, cause: Option<std::io::Error>) -> Error {
        if let Some(error) = cause.as_ref().and_then(|cause| cause.get_ref()?.downcast_ref::<Error>()) {
            return error.clone();
        }
        let error = Error::new(ErrorKind::Disconnected, "the connection was closed by the broker")
            .at(self.config.place.clone());
        let error = match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        };
        let begun = self.in_flight.iter().chain(&self.unanswered).filter(|request| request.starts_at < self.sent_bytes);
        let longest = begun.map(|request| request.ends_at - request.starts_at).max();
        let hint = self.handshake.why_closed(self.config.has_spoken).filter(|_| !self.has_answered);
        Hint::about_length(longest.unwrap_or_default()).or(hint).into_iter().fold(error, Error::with_hint)
    }

    /// The part of an error which says that the credentials were refused. If the broker is older than 1.0, they may
    /// have been whenever it hangs up.
    pub fn refusal(&self, error: &Error) -> Option<Error> {
        let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
        let refusal = [Some(error), cause].into_iter().flatten();
        let refusal = refusal.into_iter().find(|error| error.kind() == ErrorKind::Authentication);
        refusal.or(Some(error).filter(|_| self.handshake.may_be_refused())).cloned()
    }

    /// Fails every open request with `error` and forgets it.
    pub fn fail_all(&mut self, error: &Error) -> Vec<Failed> {
        let sent = self.sent_bytes;
        let fail = |request: InFlight| {
            let error = match request.key {
                ApiKey::Produce if request.starts_at < sent => error.clone().with_written(Written::Maybe),
                ApiKey::Produce => error.clone().with_written(Written::No),
                // Only a produce request carries records that may have been written.
                _ => error.clone(),
            };
            Some(Failed { id: request.id?, error })
        };
        self.in_flight.drain(..).chain(self.unanswered.drain(..)).filter_map(fail).collect()
    }
}

/// Bytes to send that are, or may be, credentials.
struct Wiped(BytesMut);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.as_mut().zeroize();
    }
}

/// Has the bytes overwritten once they are sent.
fn wipe_when_dropped(segment: &mut Bytes) {
    *segment = match std::mem::take(segment).try_into_mut() {
        Ok(bytes) => Bytes::from_owner(Wiped(bytes)),
        Err(shared) => shared,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Phase;
    use crate::link::old_broker::{OldBroker, Snub};
    use crate::secret::Secret;
    use crate::wire::api::encode_response;
    use crate::wire::error_code::ErrorCode;
    use crate::wire::messages::api_versions::ApiVersion;
    use crate::wire::messages::produce::{PartitionProduceData, TopicProduceData};
    use crate::wire::messages::{
        ApiVersionsRequest, ApiVersionsResponse, FindCoordinatorRequest, FindCoordinatorResponse, ListGroupsResponse,
        ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    };

    const OPTIONS: SendOptions = SendOptions {
        min_version: 0,
        max_version: i16::MAX,
        is_answered: true,
        limit: Duration::from_millis(500),
        may_fail_early: false,
    };
    const UNANSWERED: SendOptions = SendOptions { is_answered: false, ..OPTIONS };

    fn connection() -> Connection {
        let config = ConnectionConfig {
            client_id: "test".into(),
            max_response_bytes: 100_000_000,
            place: Place { address: Some("kafka:9092".into()), ..Place::default() },
            has_spoken: false,
            greeting: Greeting::default(),
            keeps_order: false,
            authentication_limit: Duration::from_secs(10),
            session_percent: 90,
        };
        Connection::new(config, None, ReadPool::default()).unwrap()
    }

    fn read(connection: &mut Connection, segments: &[Bytes]) -> Result<Vec<Answer>> {
        read_at(connection, Instant(0), segments)
    }

    fn read_at(connection: &mut Connection, now: Instant, segments: &[Bytes]) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        for byte in segments.concat() {
            connection.space()[0] = byte;
            connection.handle_read(now, 1, &mut answers)?;
        }
        Ok(answers)
    }

    fn versions(error_code: ErrorCode, apis: &[(ApiKey, i16, i16)]) -> ApiVersionsResponse {
        let api = |&(key, min_version, max_version): &(ApiKey, i16, i16)| ApiVersion {
            api_key: key.number(),
            min_version,
            max_version,
        };
        ApiVersionsResponse { error_code, api_keys: apis.iter().map(api).collect(), ..ApiVersionsResponse::default() }
    }

    fn answer_versions(
        connection: &mut Connection,
        correlation_id: i32,
        version: i16,
        response: &ApiVersionsResponse,
    ) -> Result<()> {
        let frame = encode_response(ApiKey::ApiVersions, version, correlation_id, response).unwrap();
        read(connection, &frame).map(|answers| assert!(answers.is_empty()))
    }

    fn send(connection: &mut Connection, now: Instant, id: u64, limit_ms: u64) {
        let options = SendOptions { limit: Duration::from_millis(limit_ms), ..OPTIONS };
        connection.send(now, RequestId(id), &MetadataRequest::default(), options).unwrap();
    }

    fn expired(connection: &mut Connection, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| connection.poll_expired(now)).map(|failed| failed.id.0).collect()
    }

    fn ready() -> Connection {
        let mut connection = connection();
        let apis = [(ApiKey::Produce, 0, 8), (ApiKey::Metadata, 0, 5), (ApiKey::ApiVersions, 0, 3)];
        let response = versions(ErrorCode::NONE, &apis);
        answer_versions(&mut connection, 0, ApiVersionsRequest::MAX_VERSION, &response).unwrap();
        assert!(connection.is_ready());
        connection
    }

    fn write_all(connection: &mut Connection) {
        write_all_at(connection, Instant(0));
    }

    fn write_all_at(connection: &mut Connection, now: Instant) {
        let bytes = connection.output().map(Bytes::len).sum();
        connection.handle_written(now, bytes);
    }

    #[test]
    fn a_broker_that_hangs_up_on_a_vast_request_is_not_said_to_want_sasl() {
        let vast = 100 << 20;
        for (bytes, options, is_written, says) in [
            (vast, OPTIONS, true, "socket.request.max.bytes"),
            (vast, UNANSWERED, true, "socket.request.max.bytes"),
            (vast, OPTIONS, false, "SASL"),
            (1 << 20, OPTIONS, true, "SASL"),
        ] {
            let mut connection = ready();
            write_all(&mut connection);
            let records = Some(Bytes::from(vec![0; bytes]).into());
            let partition_data = vec![PartitionProduceData { index: 0, records }];
            let topic_data = vec![TopicProduceData { partition_data, ..TopicProduceData::default() }];
            let request = ProduceRequest { topic_data, ..ProduceRequest::default() };
            connection.send(Instant(0), RequestId(1), &request, options).unwrap();
            send(&mut connection, Instant(0), 2, 500);
            connection.handle_written(Instant(0), usize::from(is_written));
            let error = connection.handle_closed(None).to_string();
            assert!(error.contains(says), "{options:?}: {error}");
        }
    }

    #[test]
    fn a_request_takes_the_newest_version_that_both_sides_speak() {
        let mut connection = ready();
        let version = connection.send(Instant(0), RequestId(1), &MetadataRequest::default(), OPTIONS).unwrap();
        assert_eq!(version, 5);
        let frame = encode_response(ApiKey::Metadata, 5, 1, &MetadataResponse::default()).unwrap();
        let answers = read(&mut connection, &frame).unwrap();
        assert_eq!((answers[0].id, answers[0].version), (RequestId(1), 5));
    }

    #[test]
    fn a_broker_that_does_not_know_our_version_is_asked_once_more_in_its_own() {
        let mut connection = connection();
        let refusal = versions(ErrorCode::UNSUPPORTED_VERSION, &[(ApiKey::ApiVersions, 0, 2)]);
        answer_versions(&mut connection, 0, 0, &refusal).unwrap();
        assert!(!connection.is_ready());
        let response = versions(ErrorCode::NONE, &[(ApiKey::Metadata, 0, 1)]);
        answer_versions(&mut connection, 1, 2, &response).unwrap();
        assert!(connection.is_ready());
    }

    #[test]
    fn a_broker_that_refuses_every_version_is_not_asked_for_ever() {
        let mut connection = connection();
        let refusal = versions(ErrorCode::UNSUPPORTED_VERSION, &[(ApiKey::ApiVersions, 0, 2)]);
        answer_versions(&mut connection, 0, 0, &refusal).unwrap();
        assert!(answer_versions(&mut connection, 1, 0, &refusal).is_err());
    }

    #[test]
    fn a_broker_without_the_api_is_reported_and_the_connection_goes_on() {
        let mut connection = ready();
        let error = connection.send(Instant(0), RequestId(1), &FindCoordinatorRequest::default(), OPTIONS).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        connection.send(Instant(0), RequestId(2), &MetadataRequest::default(), OPTIONS).unwrap();
    }

    #[test]
    fn a_wrong_correlation_id_ends_the_connection_and_fails_every_request_as_unknown() {
        let mut connection = ready();
        for id in [1, 2] {
            connection.send(Instant(0), RequestId(id), &ProduceRequest::default(), OPTIONS).unwrap();
        }
        write_all(&mut connection);
        let frame = encode_response(ApiKey::Metadata, 5, 2, &MetadataResponse::default()).unwrap();
        let error = read(&mut connection, &frame).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        let failed = connection.fail_all(&error);
        assert_eq!(failed.iter().map(|failed| failed.id.0).collect::<Vec<_>>(), [1, 2]);
        assert!(failed.iter().all(|failed| failed.error.written() == Written::Maybe));
    }

    #[test]
    fn a_request_of_which_no_byte_was_written_failed_for_certain() {
        let mut connection = ready();
        write_all(&mut connection);
        for id in [1, 2] {
            connection.send(Instant(0), RequestId(id), &ProduceRequest::default(), OPTIONS).unwrap();
        }
        connection.handle_written(Instant(0), 1);
        let failed = connection.fail_all(&Error::new(ErrorKind::Disconnected, "gone"));
        let written: Vec<_> = failed.iter().map(|failed| failed.error.written()).collect();
        assert_eq!(written, [Written::Maybe, Written::No]);
    }

    #[test]
    fn a_request_without_an_answer_is_done_when_its_last_byte_is_written() {
        let mut connection = ready();
        write_all(&mut connection);
        connection.send(Instant(0), RequestId(1), &MetadataRequest::default(), UNANSWERED).unwrap();
        let bytes: usize = connection.output().map(Bytes::len).sum();
        connection.handle_written(Instant(0), bytes - 1);
        assert!(connection.poll_unanswered().is_none());
        connection.handle_written(Instant(0), 1);
        assert_eq!(connection.poll_unanswered().unwrap().id, RequestId(1));
        assert!(connection.fail_all(&Error::new(ErrorKind::Closed, "closed")).is_empty());
    }

    #[test]
    fn a_request_without_an_answer_that_cannot_be_written_is_overdue_too() {
        let mut connection = ready();
        write_all(&mut connection);
        connection.send(Instant(0), RequestId(1), &ProduceRequest::default(), UNANSWERED).unwrap();
        connection.handle_written(Instant(0), 1);
        assert_eq!(connection.poll_timeout(), Some(Instant(500)));
        let error = connection.handle_timeout(Instant(500)).expect("the peer takes no bytes");
        assert_eq!(connection.fail_all(&error)[0].error.written(), Written::Maybe);
    }

    fn answer_metadata(connection: &mut Connection, now: Instant, correlation_id: i32) {
        let frame = encode_response(ApiKey::Metadata, 5, correlation_id, &MetadataResponse::default()).unwrap();
        assert_eq!(read_at(connection, now, &frame).unwrap().len(), 1);
    }

    #[test]
    fn the_limit_of_a_request_starts_when_the_one_before_it_is_answered() {
        let mut connection = ready();
        for id in [1, 2] {
            connection.send(Instant(0), RequestId(id), &MetadataRequest::default(), OPTIONS).unwrap();
        }
        assert_eq!(connection.poll_timeout(), Some(Instant(500)), "the first is next at once");
        answer_metadata(&mut connection, Instant(400), 1);
        assert_eq!(connection.poll_timeout(), Some(Instant(900)));
        assert!(connection.handle_timeout(Instant(899)).is_none());
        assert!(connection.handle_timeout(Instant(900)).is_some());
        answer_metadata(&mut connection, Instant(899), 2);
        assert_eq!(connection.poll_timeout(), None);
    }

    #[test]
    fn the_limit_of_a_request_without_an_answer_starts_when_the_one_before_it_is_written() {
        let mut connection = ready();
        write_all(&mut connection);
        for id in [1, 2] {
            connection.send(Instant(0), RequestId(id), &ProduceRequest::default(), UNANSWERED).unwrap();
        }
        let half = connection.output().map(Bytes::len).sum::<usize>() / 2;
        connection.handle_written(Instant(400), half);
        assert_eq!(connection.poll_unanswered().unwrap().id, RequestId(1));
        assert_eq!(connection.poll_timeout(), Some(Instant(900)));
    }

    #[test]
    fn a_request_whose_time_is_up_fails_alone_and_its_late_answer_is_dropped() {
        let mut connection = ready();
        send(&mut connection, Instant(0), 1, 100);
        send(&mut connection, Instant(0), 2, 1000);
        assert_eq!(connection.poll_timeout(), Some(Instant(100)));
        assert_eq!(expired(&mut connection, Instant(99)), [0; 0]);
        assert!(connection.handle_timeout(Instant(100)).is_none(), "the other one is in time");
        assert_eq!(expired(&mut connection, Instant(100)), [1]);
        assert_eq!(connection.poll_timeout(), Some(Instant(1000)));
        let frame = encode_response(ApiKey::Metadata, 5, 1, &MetadataResponse::default()).unwrap();
        assert!(read_at(&mut connection, Instant(200), &frame).unwrap().is_empty(), "nobody waits for it any more");
        answer_metadata(&mut connection, Instant(300), 2);
        assert_eq!(connection.poll_timeout(), None);
    }

    #[test]
    fn a_connection_ends_when_the_time_of_all_that_wait_is_up() {
        let mut connection = ready();
        send(&mut connection, Instant(0), 1, 100);
        send(&mut connection, Instant(50), 2, 1000);
        assert_eq!(expired(&mut connection, Instant(100)), [1]);
        assert!(connection.handle_timeout(Instant(1049)).is_none());
        let error = connection.handle_timeout(Instant(1050)).expect("nobody is in time");
        assert_eq!(connection.fail_all(&error).iter().map(|failed| failed.id.0).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn where_order_counts_an_overdue_request_waits_while_another_one_is_in_time() {
        let mut connection = ready();
        connection.config.keeps_order = true;
        send(&mut connection, Instant(0), 1, 100);
        send(&mut connection, Instant(0), 2, 1000);
        assert_eq!(connection.poll_timeout(), Some(Instant(1000)));
        assert_eq!(expired(&mut connection, Instant(999)), [0; 0]);
        answer_metadata(&mut connection, Instant(999), 1);
        assert_eq!(connection.poll_timeout(), Some(Instant(1999)));
    }

    #[test]
    fn where_order_counts_requests_that_keep_coming_do_not_keep_a_silent_connection_open() {
        let mut connection = ready();
        connection.config.keeps_order = true;
        for now in (0..500).step_by(100) {
            send(&mut connection, Instant(now), now, 500);
        }
        assert!(connection.handle_timeout(Instant(499)).is_none());
        assert!(connection.handle_timeout(Instant(500)).is_some());
    }

    #[test]
    fn waiting_behind_a_request_that_is_not_answered_counts() {
        let mut connection = ready();
        send(&mut connection, Instant(0), 1, 1000);
        send(&mut connection, Instant(0), 2, 100);
        assert_eq!(expired(&mut connection, Instant(100)), [2]);
        answer_metadata(&mut connection, Instant(200), 1);
        assert_eq!(connection.poll_timeout(), None);
    }

    #[test]
    fn a_connection_that_was_quiet_for_long_must_show_a_sign_of_life_soon() {
        let (late, due) = (Instant(30_000), Instant(30_167));
        for request in [&MetadataRequest::default() as &dyn AnyRequest, &ProduceRequest::default()] {
            let mut connection = ready();
            write_all(&mut connection);
            connection.send(late, RequestId(1), request, OPTIONS).unwrap();
            assert_eq!(connection.poll_timeout(), Some(due));
            assert!(connection.handle_timeout(Instant(due.0 - 1)).is_none());
            let error = connection.handle_timeout(due).expect("it counts as dead");
            assert_eq!(error.kind(), ErrorKind::Disconnected);
            assert_eq!(connection.fail_all(&error).iter().map(|failed| failed.id.0).collect::<Vec<_>>(), [1]);
        }
        let mut connection = ready();
        write_all(&mut connection);
        connection.send(Instant(29_999), RequestId(1), &MetadataRequest::default(), OPTIONS).unwrap();
        assert_eq!(connection.poll_timeout(), Some(Instant(30_499)), "it was heard of lately");
    }

    #[test]
    fn a_request_that_must_not_be_repeated_goes_behind_a_probe_on_a_quiet_connection() {
        for options in [OPTIONS, UNANSWERED] {
            let mut connection = ready();
            write_all(&mut connection);
            connection.send(Instant(30_000), RequestId(1), &ProduceRequest::default(), options).unwrap();
            let frame = encode_response(ApiKey::ApiVersions, 3, 1, &versions(ErrorCode::NONE, &[])).unwrap();
            assert!(read_at(&mut connection, Instant(30_100), &frame).unwrap().is_empty());
            assert!(connection.is_ready(), "the broker's versions are known already");
            write_all_at(&mut connection, Instant(30_100));
            assert_ne!(connection.poll_timeout(), Some(Instant(30_167)), "it lives");
            assert_eq!(connection.poll_unanswered().is_some(), !options.is_answered);
            connection.send(Instant(30_100), RequestId(2), &ProduceRequest::default(), OPTIONS).unwrap();
            assert_eq!(connection.in_flight.back().unwrap().correlation_id, Some(3), "one probe is enough");
        }
    }

    #[test]
    fn a_sign_of_life_ends_the_doubt() {
        let mut connection = ready();
        write_all(&mut connection);
        connection.send(Instant(30_000), RequestId(1), &MetadataRequest::default(), OPTIONS).unwrap();
        connection.send(Instant(30_000), RequestId(2), &MetadataRequest::default(), OPTIONS).unwrap();
        answer_metadata(&mut connection, Instant(30_100), 1);
        assert_eq!(connection.poll_timeout(), Some(Instant(30_600)));
    }

    const EARLY: SendOptions = SendOptions { may_fail_early: true, limit: Duration::from_secs(30), ..OPTIONS };

    /// A connection on which a request was sent at 1 s that may fail early.
    fn waiting_since_a_second(options: SendOptions) -> Connection {
        let mut connection = ready();
        connection.config.keeps_order = true;
        connection.send(Instant(1_000), RequestId(1), &MetadataRequest::default(), options).unwrap();
        write_all_at(&mut connection, Instant(1_000));
        connection
    }

    #[test]
    fn a_broker_that_is_silent_here_and_elsewhere_is_dead_long_before_the_time_of_a_request_is_up() {
        let mut connection = waiting_since_a_second(EARLY);
        connection.send(Instant(4_000), RequestId(2), &MetadataRequest::default(), EARLY).unwrap();
        assert_eq!(connection.poll_timeout(), Some(Instant(6_000)), "later requests do not postpone the check");
        assert_eq!(connection.poll_check(Instant(5_999)), None);
        assert_eq!(connection.poll_check(Instant(6_000)), Some(Duration::from_secs(5)));
        assert_eq!(connection.poll_check(Instant(7_000)), None, "one check at a time");
        assert_eq!(connection.poll_timeout(), Some(Instant(31_000)), "until its outcome is known");
        let error = connection.handle_dead().expect("nothing was heard of it");
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert_eq!(connection.fail_all(&error).len(), 2);
    }

    #[test]
    fn a_broker_that_answers_elsewhere_may_take_its_time_and_is_checked_again_later() {
        let mut connection = waiting_since_a_second(EARLY);
        assert!(connection.poll_check(Instant(6_000)).is_some());
        connection.handle_alive(Instant(6_500));
        assert!(connection.handle_dead().is_none());
        assert_eq!(connection.poll_timeout(), Some(Instant(11_500)));
        assert!(connection.poll_check(Instant(11_500)).is_some());
    }

    #[test]
    fn what_is_heard_during_a_check_counts_more_than_its_outcome() {
        let mut connection = waiting_since_a_second(EARLY);
        connection.send(Instant(1_000), RequestId(2), &MetadataRequest::default(), EARLY).unwrap();
        assert!(connection.poll_check(Instant(6_000)).is_some());
        answer_metadata(&mut connection, Instant(8_000), 1);
        assert!(connection.handle_dead().is_none());
        assert_eq!(connection.poll_timeout(), Some(Instant(13_000)));
    }

    #[test]
    fn a_request_that_must_not_be_executed_twice_waits_until_its_time_is_up() {
        let mut connection = waiting_since_a_second(EARLY);
        let late = SendOptions { may_fail_early: false, ..EARLY };
        connection.send(Instant(1_000), RequestId(2), &ProduceRequest::default(), late).unwrap();
        assert_eq!(connection.poll_timeout(), Some(Instant(31_000)));
        assert_eq!(connection.poll_check(Instant(30_000)), None);
    }

    #[test]
    fn a_broker_that_throttles_is_given_the_time_that_it_asked_for_before_it_is_checked() {
        let mut connection = waiting_since_a_second(EARLY);
        connection.handle_throttle(Instant(2_000), 7_000);
        assert_eq!(connection.poll_check(Instant(13_999)), None);
        assert!(connection.poll_check(Instant(14_000)).is_some());
    }

    #[test]
    fn the_silence_that_is_borne_depends_on_the_longest_time_limit_within_bounds() {
        for (limits, silence) in [([100, 200], 1_000), ([100, 6_000], 2_000), ([600_000, 6_000], 5_000)] {
            let mut connection = ready();
            for limit in limits.map(Duration::from_millis) {
                let options = SendOptions { limit, ..EARLY };
                connection.send(Instant(0), RequestId(1), &MetadataRequest::default(), options).unwrap();
            }
            let checked = connection.poll_check(Instant(silence));
            assert_eq!(checked, Some(Duration::from_millis(silence)), "{limits:?}");
        }
    }

    #[test]
    fn an_overdue_answer_names_the_request_and_the_broker() {
        let mut connection = ready();
        connection.send(Instant(0), RequestId(1), &MetadataRequest::default(), OPTIONS).unwrap();
        assert!(connection.handle_timeout(Instant(499)).is_none());
        let error = connection.handle_timeout(Instant(500)).unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut(Phase::Request));
        assert_eq!(error.to_string(), "no response for 500ms: at kafka:9092 in Metadata v5");
    }

    fn greeted(greeting: Greeting) -> Connection {
        Connection::new(ConnectionConfig { greeting, ..connection().config }, None, ReadPool::default()).unwrap()
    }

    #[test]
    fn credentials_are_not_left_out_however_the_connection_begins() {
        for greeting in [Greeting::Old(OldBroker::V0_9), Greeting::Probe(Snub::HungUp)] {
            let config = ConnectionConfig { greeting, ..connection().config };
            let credentials = Credentials::Plain { username: "alice".into(), password: Secret::new("password") };
            let connection = Connection::new(config, Some(credentials), ReadPool::default()).unwrap();
            assert!(!connection.is_ready(), "{greeting:?}");
            assert_eq!(asked(&connection).0, ApiKey::ApiVersions, "{greeting:?}");
        }
    }

    /// The API of the request that was sent last.
    fn asked(connection: &Connection) -> (ApiKey, i16) {
        let request = connection.in_flight.back().unwrap();
        (request.key, request.version)
    }

    fn answer_probe(connection: &mut Connection, number: i32) {
        let frame = match number {
            0 => encode_response(ApiKey::ListOffsets, 0, number, &ListOffsetsResponse::default()),
            _ => encode_response(ApiKey::ListGroups, 0, number, &ListGroupsResponse::default()),
        };
        read(connection, &frame.unwrap()).unwrap();
    }

    #[test]
    fn a_broker_that_hangs_up_is_probed_and_one_of_0_8_2_hangs_up_at_the_second_question() {
        assert_eq!(connection().after_hang_up(), Some(Greeting::Probe(Snub::HungUp)));
        for snub in [Snub::HungUp, Snub::Silent] {
            let mut probe = greeted(Greeting::Probe(snub));
            assert_eq!(asked(&probe), (ApiKey::ListOffsets, 0));
            assert_eq!(probe.after_hang_up(), None, "it may not be Kafka");
            answer_probe(&mut probe, 0);
            assert_eq!(asked(&probe), (ApiKey::ListGroups, 0));
            assert_eq!(probe.after_hang_up(), Some(Greeting::Old(OldBroker::V0_8_2)));
        }
        let old = greeted(Greeting::Old(OldBroker::V0_8_2));
        assert!(old.is_ready() && !old.has_output(), "it needs no request");
        let versions = old.versions().unwrap();
        assert_eq!(versions.choose(ApiKey::OffsetCommit, (0, 9)).unwrap(), 1);
        let error = versions.choose(ApiKey::JoinGroup, (0, 9)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("consumer groups need a broker of Kafka 0.9"), "{error}");
    }

    #[test]
    fn a_broker_that_is_silent_about_its_versions_but_answers_a_probe_is_of_0_9() {
        let mut probe = greeted(Greeting::Probe(Snub::Silent));
        answer_probe(&mut probe, 0);
        answer_probe(&mut probe, 1);
        assert!(probe.is_ready());
        let versions = probe.versions().unwrap();
        assert!(versions.is_assumed());
        assert_eq!(versions.choose(ApiKey::Produce, (0, 13)).unwrap(), 1);
    }

    #[test]
    fn a_broker_that_hung_up_but_answers_a_probe_is_asked_for_its_versions_again() {
        let mut probe = greeted(Greeting::Probe(Snub::HungUp));
        answer_probe(&mut probe, 0);
        answer_probe(&mut probe, 1);
        assert!(!probe.is_ready());
        assert_eq!(asked(&probe).0, ApiKey::ApiVersions);
        let known = versions(ErrorCode::NONE, &[(ApiKey::Metadata, 0, 12)]);
        let frame = encode_response(ApiKey::ApiVersions, ApiVersionsRequest::MAX_VERSION, 2, &known).unwrap();
        read(&mut probe, &frame).unwrap();
        assert!(probe.is_ready() && !probe.versions().unwrap().is_assumed());
    }

    #[test]
    fn an_old_broker_is_never_asked_for_its_versions_not_even_on_a_quiet_connection() {
        let mut old = greeted(Greeting::Old(OldBroker::V0_9));
        old.send(Instant(0), RequestId(1), &FindCoordinatorRequest::default(), OPTIONS).unwrap();
        let frame = encode_response(ApiKey::FindCoordinator, 0, 0, &FindCoordinatorResponse::default()).unwrap();
        write_all(&mut old);
        assert_eq!(read(&mut old, &frame).unwrap().len(), 1);
        old.send(Instant(30_000), RequestId(2), &ProduceRequest::default(), OPTIONS).unwrap();
        let keys: Vec<_> = old.in_flight.iter().map(|request| request.key).collect();
        assert_eq!(keys, [ApiKey::ListOffsets, ApiKey::Produce]);
    }

    #[test]
    fn a_request_in_a_version_that_the_broker_is_too_old_for_is_refused_and_not_sent() {
        let mut old = greeted(Greeting::Old(OldBroker::V0_9));
        let options = SendOptions { min_version: 3, ..OPTIONS };
        let error = old.send(Instant(0), RequestId(1), &ProduceRequest::default(), options).unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Unsupported, Written::No));
        assert!(!old.has_output());
    }

    #[test]
    fn a_long_answer_before_the_handshake_is_refused() {
        let mut connection = connection();
        let error = read(&mut connection, &[Bytes::from_static(&[0, 1, 0, 1])]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }

    #[test]
    fn throttling_is_capped_and_a_negative_time_is_none() {
        let mut connection = ready();
        connection.handle_throttle(Instant(0), i32::MIN);
        assert_eq!(connection.throttled_until(Instant(0)), None);
        connection.handle_throttle(Instant(0), i32::MAX);
        assert_eq!(connection.throttled_until(Instant(0)), Some(Instant(30_000)));
    }
}
