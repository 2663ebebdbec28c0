//! Parses `bootstrap.servers`, as people write it in Rust, in Python and on the command line.

use core::net::Ipv6Addr;
use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result, printable};

/// The port of a server without one.
const DEFAULT_PORT: u16 = 9092;

/// The longest host name in DNS, in bytes.
const MAX_HOST_BYTES: usize = 255;

/// Parses a comma-separated list of `host:port`; keeps the order, and drops duplicates.
///
/// Without a port it is 9092. An IPv6 address needs brackets: `[::1]:9092`. White space around an entry (for instance
/// the newline at the end of a file) and empty entries are ignored. Kafka: `bootstrap.servers`.
///
/// # Errors
///
/// `Config`, with the invalid entry: it has a protocol (`PLAINTEXT://`), a port outside 1 to 65,535, or a host with
/// characters other than ASCII letters, digits, `.`, `_` and `-`. Also if there is no entry at all.
pub fn parse_bootstrap_servers(list: &str) -> Result<Vec<(String, u16)>> {
    let mut servers = Vec::new();
    let mut seen = BTreeSet::new();
    for element in list.split(',').map(trim).filter(|element| !element.is_empty()) {
        let server = parse_server(element).map_err(|why| {
            Error::new(ErrorKind::Config, format!("bootstrap.servers: `{}` {why}", printable(element)))
        })?;
        if seen.insert(server.clone()) {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        let hint = "give one or more host:port, separated by commas";
        return Err(Error::new(ErrorKind::Config, "bootstrap.servers names no broker").with_hint(hint));
    }
    Ok(servers)
}

/// A server as it is written in `bootstrap.servers`: with brackets around an IPv6 address.
pub fn show_server(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Removes white space, and the byte order mark that some editors put at the beginning of a file.
fn trim(element: &str) -> &str {
    element.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

fn parse_server(element: &str) -> std::result::Result<(String, u16), &'static str> {
    if element.contains("://") {
        return Err("begins with a protocol; give host:port");
    }
    if let Some(bracketed) = element.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or("has no closing bracket")?;
        let _: Ipv6Addr = address.parse().map_err(|_| "has no IPv6 address in its brackets")?;
        let port = match rest.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if rest.is_empty() => DEFAULT_PORT,
            None => return Err("has no colon between its brackets and its port"),
        };
        return Ok((address.to_owned(), port));
    }
    let (host, port) = match element.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            return Err("has too many colons; give an IPv6 address as [address]:port");
        }
        Some((host, port)) => (host, parse_port(port)?),
        None => (element, DEFAULT_PORT),
    };
    if host.is_empty() {
        return Err("has no host; give host:port");
    }
    if host.len() > MAX_HOST_BYTES {
        return Err("has a host name of more than 255 characters");
    }
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return Err("has a host with characters other than ASCII letters, digits, '.', '_' and '-'");
    }
    Ok((host.to_owned(), port))
}

fn parse_port(port: &str) -> std::result::Result<u16, &'static str> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { port.parse().ok() } else { None };
    number.filter(|port| *port > 0).ok_or("has a port that is not a number from 1 to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(list: &str) -> Vec<(String, u16)> {
        parse_bootstrap_servers(list).unwrap()
    }

    fn server(host: &str, port: u16) -> (String, u16) {
        (host.to_owned(), port)
    }

    #[test]
    fn a_list_without_a_server_is_refused() {
        for list in ["", " ", ",", " , ,", "\n"] {
            let error = parse_bootstrap_servers(list).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{list:?}");
            assert!(error.to_string().contains("names no broker"), "{error}");
        }
    }

    #[test]
    fn the_element_that_is_wrong_is_named() {
        let wrong = [
            "a:b",
            "h:0",
            "h:65536",
            "h:-1",
            "h:+1",
            "h:9092x",
            "h:",
            ":9092",
            "::1",
            "[::1",
            "[h]:9092",
            "[::1]9092",
            "PLAINTEXT://h:9092",
            "h:1/chroot",
            "h h:1",
            "grün:1",
        ];
        for element in wrong {
            let error = parse_bootstrap_servers(&format!("good:9092,{element}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{element}");
            assert!(error.to_string().contains(&format!("`{element}`")), "{error}");
        }
        for element in ["a\0b:1", "a\nb:1", &"x".repeat(256)] {
            let error = parse_bootstrap_servers(element).unwrap_err();
            assert!(!error.to_string().contains(['\0', '\n']), "{error}");
        }
    }

    #[test]
    fn a_host_without_a_port_means_9092() {
        assert_eq!(servers("h"), [server("h", 9092)]);
        assert_eq!(servers("[::1]"), [server("::1", 9092)]);
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        assert_eq!(servers("[::1]:1234"), [server("::1", 1234)]);
    }

    #[test]
    fn white_space_of_every_kind_around_a_server_does_not_count() {
        for list in ["h1:1,h2:2\n", "\u{feff}h1:1 ,\r\n\th2:2\r\n", "\u{a0}h1:1\u{a0},\u{2003}h2:2"] {
            assert_eq!(servers(list), [server("h1", 1), server("h2", 2)], "{list:?}");
        }
    }

    #[test]
    fn duplicates_are_merged_in_order() {
        assert_eq!(servers("h1:1,h2:2, h3:3 ,h1:1,"), [server("h1", 1), server("h2", 2), server("h3", 3)]);
        assert_eq!(servers("kafka.example.org.:1"), [server("kafka.example.org.", 1)]);
    }

    #[test]
    fn a_long_list_is_read() {
        let list: Vec<String> = (0..10_000).map(|number| format!("h{number}:9092")).collect();
        assert_eq!(servers(&list.join(",")).len(), 10_000);
    }
}
