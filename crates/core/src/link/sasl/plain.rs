//! PLAIN (RFC 4616): the client sends its name and password, and the broker answers with an empty message.

use super::{Mechanism, Move, refuse, superfluous};
use crate::error::Result;
use crate::secret::Secret;

#[derive(Debug)]
pub(super) struct Plain {
    username: String,
    password: Secret,
    is_sent: bool,
}

impl Plain {
    pub(super) fn new(username: String, password: Secret) -> Self {
        Self { username, password, is_sent: false }
    }
}

impl Mechanism for Plain {
    fn step(&mut self, message: &[u8]) -> Result<Move> {
        if self.is_sent {
            return if message.is_empty() { Ok(Move::Done) } else { Err(superfluous("PLAIN")) };
        }
        let (username, password) = (self.username.as_bytes(), self.password.reveal());
        if username.is_empty() || password.is_empty() {
            return Err(refuse("the user name or the password for SASL PLAIN is empty"));
        }
        if username.contains(&0) || password.contains(&0) {
            // NUL separates the fields: with one inside, the broker would see another name or password.
            return Err(refuse("the user name or the password for SASL PLAIN contains a NUL character"));
        }
        self.is_sent = true;
        // The first field would name a user to act for; Kafka wants it empty or equal to the name.
        Ok(Move::Send([b"\0", username, b"\0", password].concat().into()))
    }

    fn secret(&self) -> Option<&Secret> {
        Some(&self.password)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::Work;
    use super::*;
    use crate::error::ErrorKind;

    fn plain(username: &str, password: &str) -> Plain {
        Plain::new(username.into(), Secret::new(password))
    }

    #[test]
    fn the_example_of_the_rfc_is_reproduced() {
        let mut plain = plain("tim", "tanstaaftanstaaf");
        assert_eq!(plain.step(b"").unwrap(), Move::Send(b"\0tim\0tanstaaftanstaaf".to_vec().into()));
        assert_eq!(plain.step(b"").unwrap(), Move::Done);
    }

    #[test]
    fn a_field_cannot_smuggle_in_another_one() {
        for (username, password) in [("tim\0root", "secret"), ("tim", "sec\0ret"), ("", "secret"), ("tim", "")] {
            let error = plain(username, password).step(b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Authentication);
            assert!(!error.to_string().contains("sec"), "{error}");
        }
    }

    #[test]
    fn an_answer_to_the_password_must_be_empty() {
        let mut plain = plain("tim", "secret");
        plain.step(b"").unwrap();
        assert!(plain.step(b"more?").is_err());
    }

    #[test]
    fn debug_shows_nothing_of_a_message() {
        let work = Work { mechanism: Box::new(plain("tim", "tanstaaf")), message: Bytes::new() };
        let worked = format!("{:?}", work.run());
        assert!(worked.contains("outcome: Ok(Send(***))") && !worked.contains("tanstaaf"), "{worked}");
    }
}
