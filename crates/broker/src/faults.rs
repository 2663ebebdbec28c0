//! What goes wrong on purpose.
//!
//! A [`Fault`] says which requests it strikes, how often, and what happens to them. Of several that fit a request the
//! one that was added first strikes. The most treacherous one is [`Fault::lose_answer`]: the request is carried out,
//! and the client cannot know.

use std::time::Duration;

use kavka_core::wire::api::ApiKey;
use kavka_core::wire::error_code::ErrorCode;

use crate::ConnectionId;

/// Something that goes wrong with requests of one API, or of all.
#[derive(Debug, Clone)]
pub struct Fault {
    api: Option<ApiKey>,
    broker_id: Option<i32>,
    connection: Option<ConnectionId>,
    client_id: Option<String>,
    /// How many requests it lets pass first.
    after: u32,
    /// How many requests it strikes; `None` for all.
    times: Option<u32>,
    then: Then,
    is_applied: bool,
}

impl Fault {
    fn new(then: Then, is_applied: bool) -> Self {
        Self {
            api: None,
            broker_id: None,
            connection: None,
            client_id: None,
            after: 0,
            times: Some(1),
            then,
            is_applied,
        }
    }

    /// Answers with this error code, in every place that the response has for one; nothing is carried out.
    pub fn fail(error_code: ErrorCode) -> Self {
        Self::new(Then::Fail(error_code), false)
    }

    /// Carries the request out and still answers with this error code.
    pub fn fail_after_applying(error_code: ErrorCode) -> Self {
        Self::new(Then::Fail(error_code), true)
    }

    /// Carries the request out at once and answers later; requests behind it on the connection wait.
    pub fn delay(delay: Duration) -> Self {
        Self::new(Then::Delay(delay), true)
    }

    /// Never answers, and reads nothing more from the connection; nothing is carried out.
    pub fn silence() -> Self {
        Self::new(Then::Silence, false)
    }

    /// Carries the request out and never answers.
    pub fn silence_after_applying() -> Self {
        Self::new(Then::Silence, true)
    }

    /// Closes the connection; nothing is carried out.
    pub fn close() -> Self {
        Self::new(Then::Close, false)
    }

    /// Carries the request out and closes the connection instead of answering.
    pub fn lose_answer() -> Self {
        Self::new(Then::Close, true)
    }

    /// Only for requests of this API; without it for all but `ApiVersions`.
    #[must_use]
    pub fn api(mut self, api: ApiKey) -> Self {
        self.api = Some(api);
        self
    }

    /// Only at this broker.
    #[must_use]
    pub fn broker(mut self, broker_id: i32) -> Self {
        self.broker_id = Some(broker_id);
        self
    }

    /// Only on this connection.
    #[must_use]
    pub fn connection(mut self, connection: ConnectionId) -> Self {
        self.connection = Some(connection);
        self
    }

    /// Only for clients with this `client.id`.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// For this many requests. Default: 1.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// For every request.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// Lets this many requests pass first. Default: 0.
    #[must_use]
    pub fn after(mut self, requests: u32) -> Self {
        self.after = requests;
        self
    }

    fn fits(&self, request: &Candidate) -> bool {
        self.api.map_or(request.api != ApiKey::ApiVersions, |api| api == request.api)
            && self.broker_id.is_none_or(|broker_id| broker_id == request.broker_id)
            && self.connection.is_none_or(|connection| connection == request.connection)
            && self.client_id.as_deref().is_none_or(|client_id| Some(client_id) == request.client_id)
    }
}

/// A request, as faults see it.
pub(crate) struct Candidate<'a> {
    pub(crate) api: ApiKey,
    pub(crate) broker_id: i32,
    pub(crate) connection: ConnectionId,
    pub(crate) client_id: Option<&'a str>,
}

/// What happens to a request that a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mishap {
    /// Whether the request is carried out.
    pub(crate) is_applied: bool,
    pub(crate) then: Then,
}

/// What happens in place of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Answer,
    Fail(ErrorCode),
    Delay(Duration),
    Silence,
    Close,
}

/// The faults that are waiting for requests.
#[derive(Debug, Default)]
pub struct Faults {
    faults: Vec<Fault>,
    injected: u64,
}

impl Faults {
    /// Adds a fault behind those that are there.
    pub fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Removes every fault.
    pub fn clear(&mut self) {
        self.faults.clear();
    }

    /// How many requests a fault has struck so far.
    pub fn injected(&self) -> u64 {
        self.injected
    }

    /// Whether every fault with a number of times has been used up.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// What happens to this request.
    pub(crate) fn strike(&mut self, request: &Candidate) -> Mishap {
        const NONE: Mishap = Mishap { is_applied: true, then: Then::Answer };
        let fitting = self.faults.iter_mut().enumerate().find(|(_, fault)| fault.fits(request));
        let Some((index, fault)) = fitting else { return NONE };
        if let Some(after) = fault.after.checked_sub(1) {
            fault.after = after;
            return NONE;
        }
        self.injected = self.injected.saturating_add(1);
        let mishap = Mishap { is_applied: fault.is_applied, then: fault.then };
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.faults.remove(index);
            }
        }
        mishap
    }
}
