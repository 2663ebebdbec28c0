//! Settings of any name and value: broker addresses, JAAS lines, numbers, security.
//!
//! They are accepted, or refused as a configuration error that shows no secret and nothing that a terminal obeys. A
//! list of brokers that was read is read again to the same.
#![no_main]

use kavka_core::config::{all_settings, group_properties, parse_bootstrap_servers, producer_properties};
use kavka_core::error::{Error, ErrorKind};
use kavka_fuzz::{Unstructured, arbitrary, below};
use libfuzzer_sys::fuzz_target;

/// Stands in every secret.
const SECRET: &str = "Canary7";

const MODULES: [&str; 3] = [
    "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"a\" password=\"Canary7\";",
    "org.apache.kafka.common.security.scram.ScramLoginModule required username='a' password='Canary7';",
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId=a clientSecret=Canary7;",
];

fn check(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    assert!(!shown.contains(SECRET), "{shown}");
}

fn servers(list: &str) {
    match parse_bootstrap_servers(list) {
        Ok(servers) => {
            let host = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            let again: Vec<_> = servers.iter().map(|(name, port)| format!("{}:{port}", host(name))).collect();
            assert_eq!(parse_bootstrap_servers(&again.join(",")).expect("it was read before"), servers);
        }
        Err(error) => check(&error),
    }
}

/// A value for a setting: a likely one, or any text. Secrets hold the canary.
fn some_value(input: &mut Unstructured<'_>, name: &str) -> arbitrary::Result<String> {
    let text = String::from_utf8_lossy(kavka_fuzz::some_bytes(input, 80)?).into_owned();
    let likely = ["true", "SASL_SSL", "SCRAM-SHA-256", "OAUTHBEARER", "PLAIN", "GSSAPI", "5", "none", "https", ""];
    Ok(match name {
        "sasl.jaas.config" => {
            let mut line = MODULES[below(input, MODULES.len())?].to_owned();
            let at = (0..=below(input, line.len() + 1)?).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            // Not into the canary, which would then not be found.
            let at = if line.split_at(at).1.contains(SECRET) || !line.split_at(at).0.contains(SECRET) {
                at.min(20)
            } else {
                at
            };
            line.insert_str(at, &text);
            line
        }
        "sasl.password" | "ssl.key.password" | "ssl.keystore.key" => format!("{SECRET}{text}"),
        _ if input.ratio(1, 2)? => likely[below(input, likely.len())?].to_owned(),
        _ => text,
    })
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    servers(&String::from_utf8_lossy(kavka_fuzz::some_bytes(input, 100)?));
    let names: Vec<_> = all_settings().map(|setting| setting.name).collect();
    let mut properties = Vec::new();
    while !input.is_empty() && properties.len() < 8 {
        let name = match below(input, 16)? {
            0 => String::from_utf8_lossy(kavka_fuzz::some_bytes(input, 30)?).into_owned(),
            1..=8 => {
                let security: Vec<_> =
                    names.iter().filter(|name| name.starts_with("s") && name.contains(['.'])).copied().collect();
                security[below(input, security.len())?].to_owned()
            }
            _ => names[below(input, names.len())?].to_owned(),
        };
        let value = some_value(input, &name)?;
        properties.push((name, value));
    }
    let clients = [
        producer_properties(properties.iter().cloned()).map(|(client, _)| client),
        group_properties(properties).map(|(client, ..)| client),
    ];
    for client in clients {
        match client.map(|client| client.security()) {
            Ok(Ok(security)) => assert!(!format!("{security:?}").contains(SECRET), "{security:?}"),
            Ok(Err(error)) | Err(error) => check(&error),
        }
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
