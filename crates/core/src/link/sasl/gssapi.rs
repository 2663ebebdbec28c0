//! GSSAPI (RFC 4752): the client proves its identity with a Kerberos ticket.
//!
//! The system's Kerberos library makes and reads the tokens. When the two sides know each other, the broker offers
//! security layers for the rest of the connection; Kafka uses none, because TLS protects the connection.

use std::fmt;

use super::{Mechanism, Move, refuse, superfluous};
use crate::error::Result;

/// "No security layer", in the broker's offer and in the client's choice.
const NO_LAYER: u8 = 1;

/// A security context of the system's Kerberos library. Its calls may block.
pub trait GssContext: fmt::Debug + Send {
    /// Takes the broker's token, which is empty before the first step, and returns the next token to send. It is empty
    /// if there is nothing to send.
    fn step(&mut self, token: &[u8]) -> Result<Vec<u8>>;

    /// Whether the context is established, so that messages can be protected.
    fn is_established(&self) -> bool;

    /// Protects a message against changes.
    fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>>;

    /// Checks a protected message, and returns what it protects.
    fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>>;
}

#[derive(Debug)]
enum Stage {
    Context,
    /// The broker's next message offers the security layers.
    Layers,
    Last,
}

#[derive(Debug)]
pub(super) struct Gssapi {
    context: Box<dyn GssContext>,
    stage: Stage,
}

impl Gssapi {
    pub(super) fn new(context: Box<dyn GssContext>) -> Self {
        Self { context, stage: Stage::Context }
    }

    /// The answer to the broker's offer: one octet with the security layers, and three with the largest message.
    fn choose_layer(&mut self, message: &[u8]) -> Result<Move> {
        let offer = self.context.unwrap(message)?;
        let &[layers, _, _, _] = offer.as_slice() else {
            let bytes = offer.len();
            return Err(refuse(format!("the broker's offer of security layers has {bytes} bytes, not 4")));
        };
        if layers & NO_LAYER == 0 {
            return Err(refuse("the broker insists on a SASL security layer, which Kafka does not have")
                .with_hint("protect the connection with TLS instead (security.protocol)"));
        }
        // After the layer and the largest message that we could receive in it, the name to act for; empty is our own.
        self.context.wrap(&[NO_LAYER, 0, 0, 0]).map(|choice| Move::Send(choice.into()))
    }
}

impl Mechanism for Gssapi {
    fn step(&mut self, message: &[u8]) -> Result<Move> {
        match self.stage {
            Stage::Context => {
                let token = self.context.step(message)?;
                if self.context.is_established() {
                    self.stage = Stage::Layers;
                } else if token.is_empty() {
                    return Err(refuse("the Kerberos library neither goes on nor ends the exchange"));
                }
                Ok(Move::Send(token.into()))
            }
            Stage::Layers => {
                let choice = self.choose_layer(message)?;
                self.stage = Stage::Last;
                Ok(choice)
            }
            Stage::Last if message.is_empty() => Ok(Move::Done),
            Stage::Last => Err(superfluous("GSSAPI")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A context that is established with the broker's first token, and protects a message with brackets.
    #[derive(Debug, Default)]
    struct Bracketing {
        steps: usize,
    }

    impl GssContext for Bracketing {
        fn step(&mut self, token: &[u8]) -> Result<Vec<u8>> {
            self.steps += 1;
            Ok(if token.is_empty() { b"ticket".to_vec() } else { Vec::new() })
        }

        fn is_established(&self) -> bool {
            self.steps > 1
        }

        fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>> {
            Ok([b"[", message, b"]"].concat())
        }

        fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>> {
            let inner = message.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
            inner.map(<[u8]>::to_vec).ok_or_else(|| refuse("the message was changed"))
        }
    }

    fn established() -> Gssapi {
        let mut gssapi = Gssapi::new(Box::new(Bracketing::default()));
        assert_eq!(gssapi.step(b"").unwrap(), Move::Send(b"ticket".to_vec().into()));
        assert_eq!(gssapi.step(b"ok").unwrap(), Move::Send(Vec::new().into()));
        gssapi
    }

    #[test]
    fn after_the_ticket_the_client_chooses_no_security_layer() {
        let mut gssapi = established();
        assert_eq!(gssapi.step(b"[\x07\0\xff\xff]").unwrap(), Move::Send(b"[\x01\0\0\0]".to_vec().into()));
        assert_eq!(gssapi.step(b"").unwrap(), Move::Done);
    }

    #[test]
    fn an_offer_that_is_changed_or_lacks_no_layer_is_refused() {
        for offer in [&b"\x07\0\0\0"[..], b"[\x06\0\0\0]", b"[\x01\0\0]", b"[]", b""] {
            assert!(established().step(offer).is_err(), "{offer:?}");
        }
    }
}
