//! An identity provider that answers anything: HTTP, JSON, and the claims of a JSON Web Token.
//!
//! There is a token, or an error which says that the provider refused or is out of order, and which shows no token,
//! nothing that the client sent to prove who it is, and nothing that a terminal obeys. A token that is given out has a
//! value and has not expired.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use kavka::fuzzing::{expiry, token};
use kavka::{Error, ErrorKind, Secret, Token};
use kavka_fuzz::{Unstructured, arbitrary, within_memory};
use libfuzzer_sys::fuzz_target;

/// Stands in every token.
const SECRET: &str = "Canary7";

/// What the client sent: its secret, and its login in Base64.
const SENT: [&str; 2] = ["hunter2-sent", "aWQ6aHVudGVyMi1zZW50"];

fn check(error: &Error, is_shown: bool) {
    let told = format!("{error} {error:?}");
    assert!(SENT.iter().all(|secret| !told.contains(secret)), "{told}");
    assert!(matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Disconnected), "{error}");
    assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    assert!(is_shown || !told.contains(SECRET), "{told}");
}

/// The answer to a client, with HTTP of the input or around a body of the input. And whether an error may show
/// [`SECRET`]: if the input has it, the provider may have said it as the reason of a refusal.
fn some_answer(mut input: Unstructured<'_>) -> arbitrary::Result<(Vec<u8>, bool)> {
    let (kind, status) =
        (input.arbitrary::<u8>()?, [200_u16, 400, 302, 503][usize::from(input.arbitrary::<u8>()? % 4)]);
    let rest = input.take_rest().to_vec();
    let is_shown = rest.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    let answer = match kind % 4 {
        0 => rest,
        1 => {
            let repeated = SENT[rest.len() % 2];
            let begin = format!("{{\"access_token\":\"{SECRET}\",\"error_description\":\"no {repeated}, please\",");
            let body = [begin.as_bytes(), &rest].concat();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
            [head.as_bytes(), &body].concat()
        }
        2 => [format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(), &rest].concat(),
        _ => [format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes(), &rest].concat(),
    };
    Ok((answer, is_shown))
}

fn run(data: &[u8]) -> arbitrary::Result<()> {
    let (answer, is_shown) = some_answer(Unstructured::new(data))?;
    let sent = SENT.map(Secret::new);
    for (piece_bytes, ends) in [(answer.len(), false), (answer.len(), true), (1 + data.len() % 7, true)] {
        // The two buffers of an answer, 64 headers, and a tree of JSON.
        let read = within_memory(answer.len(), (128 << 10) + 64 * answer.len(), || {
            token(&answer, piece_bytes, ends, &sent)
        });
        match read {
            Ok(Some(token)) => {
                assert!(!token.value.reveal().is_empty(), "a token without a value");
                match expiry(&token) {
                    Ok(at) => assert!(at.is_none_or(|at| at > 0), "{at:?}"),
                    Err(error) => check(&error, is_shown),
                }
            }
            Ok(None) => {}
            Err(error) => check(&error, is_shown),
        }
    }
    // The input as the claims of a token.
    let claims = Token::new(Secret::new(format!("{SECRET}.{}.", BASE64.encode(data))));
    if let Err(error) = within_memory(data.len(), 64 * data.len(), || expiry(&claims)) {
        check(&error, false);
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
