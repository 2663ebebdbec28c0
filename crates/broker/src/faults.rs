//! Faults to inject.
//!
//! A [`Fault`] says which requests it hits, how many, and what happens to them. If several match a request, the one
//! added first hits it. The hardest for a client is [`Fault::lose_answer`]: the request is executed, and the client
//! cannot know.

use std::time::Duration;

use kavka_core::wire::api::ApiKey;
use kavka_core::wire::error_code::ErrorCode;

use crate::ConnectionId;

/// A fault that hits requests of one API or of all.
#[derive(Debug, Clone)]
pub struct Fault {
    api: Option<ApiKey>,
    broker_id: Option<i32>,
    connection: Option<ConnectionId>,
    client_id: Option<String>,
    /// How many matching requests it spares first.
    after: u32,
    /// How many requests it hits; `None`: all.
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

    /// Responds with this error code in every error field, without executing the request.
    pub fn fail(error_code: ErrorCode) -> Self {
        Self::new(Then::Fail(error_code), false)
    }

    /// Executes the request, but responds with this error code.
    pub fn fail_after_applying(error_code: ErrorCode) -> Self {
        Self::new(Then::Fail(error_code), true)
    }

    /// Executes the request at once, but responds later; later requests on the connection wait.
    pub fn delay(delay: Duration) -> Self {
        Self::new(Then::Delay(delay), true)
    }

    /// Never responds, reads no more from the connection, and does not execute the request.
    pub fn silence() -> Self {
        Self::new(Then::Silence, false)
    }

    /// Executes the request, but never responds.
    pub fn silence_after_applying() -> Self {
        Self::new(Then::Silence, true)
    }

    /// Closes the connection, without executing the request.
    pub fn close() -> Self {
        Self::new(Then::Close, false)
    }

    /// Executes the request, and closes the connection instead of responding.
    pub fn lose_answer() -> Self {
        Self::new(Then::Close, true)
    }

    /// Hits only requests of this API; by default all except `ApiVersions`.
    #[must_use]
    pub fn api(mut self, api: ApiKey) -> Self {
        self.api = Some(api);
        self
    }

    /// Hits only requests to this broker.
    #[must_use]
    pub fn broker(mut self, broker_id: i32) -> Self {
        self.broker_id = Some(broker_id);
        self
    }

    /// Hits only requests on this connection.
    #[must_use]
    pub fn connection(mut self, connection: ConnectionId) -> Self {
        self.connection = Some(connection);
        self
    }

    /// Hits only clients with this `client.id`.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Hits this many requests. Default: 1.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Hits every matching request.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// Spares this many matching requests first. Default: 0.
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

/// The properties of a request that faults match.
pub(crate) struct Candidate<'a> {
    pub(crate) api: ApiKey,
    pub(crate) broker_id: i32,
    pub(crate) connection: ConnectionId,
    pub(crate) client_id: Option<&'a str>,
}

/// What happens to a request that a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mishap {
    /// Whether the request is executed.
    pub(crate) is_applied: bool,
    pub(crate) then: Then,
}

/// What happens instead of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Answer,
    Fail(ErrorCode),
    Delay(Duration),
    Silence,
    Close,
}

/// The faults that are active.
#[derive(Debug, Default)]
pub struct Faults {
    faults: Vec<Fault>,
    injected: u64,
}

impl Faults {
    /// Adds a fault, after the existing ones.
    pub fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Removes all faults.
    pub fn clear(&mut self) {
        self.faults.clear();
    }

    /// How many requests faults have hit so far.
    pub fn injected(&self) -> u64 {
        self.injected
    }

    /// Whether no fault with a limited number of hits is left.
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
