//! The names of all settings: finding one, and saying which one was meant.

use super::{ClientConfig, ConsumerConfig, ProducerConfig, Setting};
use crate::error::{Error, ErrorKind, printable};

/// Every setting there is: the client's, the producer's and the consumer's.
pub fn all_settings() -> impl Iterator<Item = &'static Setting> {
    [ClientConfig::SETTINGS, ProducerConfig::SETTINGS, ConsumerConfig::SETTINGS].into_iter().flatten()
}

/// The error for a name that is in none of `tables`.
pub(super) fn unknown(name: &str, tables: &[&'static [Setting]]) -> Error {
    let shown = printable(name);
    let what = if let Some(other) = all_settings().find(|setting| setting.name == name) {
        format!("{name} is not a setting of this kind; it is {}", owner(other))
    } else if let Some(nearest) = nearest(name, tables) {
        format!("no setting is called `{shown}`; did you mean {nearest}?")
    } else {
        format!("no setting is called `{shown}`")
    };
    Error::new(ErrorKind::Config, what)
}

/// Whose setting it is, in words.
fn owner(setting: &Setting) -> &'static str {
    let is_in = |table: &[Setting]| table.iter().any(|other| other.name == setting.name);
    if is_in(ClientConfig::SETTINGS) {
        "a client's setting"
    } else if is_in(ProducerConfig::SETTINGS) {
        "a producer's setting"
    } else {
        "a consumer's setting"
    }
}

/// The setting that somebody who wrote `name` most likely meant.
///
/// Names are compared without case and with dots for underscores, by the number of letters to change. PyKafka's keywords
/// count as well. A name of which more than a third would have to be changed is nobody's.
fn nearest(name: &str, tables: &[&'static [Setting]]) -> Option<&'static str> {
    let plain = |name: &str| name.to_lowercase().replace(['_', '-'], ".");
    let wanted = plain(name);
    let distance = |setting: &Setting| {
        let known = [setting.name, setting.field].into_iter().chain(setting.pykafka);
        known.map(|known| edits(&wanted, &plain(known))).min().unwrap_or(usize::MAX)
    };
    let settings = tables.iter().copied().flatten();
    let (edits, setting) = settings.map(|setting| (distance(setting), setting)).min_by_key(|(edits, _)| *edits)?;
    (edits <= wanted.chars().count() / 3).then_some(setting.name)
}

/// How many letters must be added, removed or replaced to make one text of the other.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    // `costs[n]`: from the letters of `one` seen so far to the first `n` letters of `other`.
    let mut costs: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.chars().enumerate() {
        let mut last = row + 1;
        let mut next = vec![last];
        for (pair, candidate) in costs.windows(2).zip(&other) {
            let &[diagonal, above] = pair else { continue };
            last = (diagonal + usize::from(letter != *candidate)).min(above + 1).min(last + 1);
            next.push(last);
        }
        costs = next;
    }
    costs.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("linger", "linger"), 0);
        assert_eq!(edits("lingr", "linger"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
    }

    #[test]
    fn the_setting_that_was_meant_is_found() {
        let tables = [ClientConfig::SETTINGS, ProducerConfig::SETTINGS];
        for (name, meant) in [
            ("lingr.ms", "linger.ms"),
            ("LINGER_MS", "linger.ms"),
            ("bootstrap.server", "bootstrap.servers"),
            ("hosts", "bootstrap.servers"),
            ("required_acks", "acks"),
            ("max_request_size", "max.request.size"),
        ] {
            assert_eq!(nearest(name, &tables), Some(meant), "{name}");
        }
        assert_eq!(nearest("sasl.mechanism", &tables), None);
    }

    #[test]
    fn a_name_stands_for_one_setting_of_a_config() {
        for settings in [ClientConfig::SETTINGS, ProducerConfig::SETTINGS, ConsumerConfig::SETTINGS] {
            for (index, setting) in settings.iter().enumerate() {
                assert!(!settings[..index].iter().any(|other| other.name == setting.name), "{}", setting.name);
            }
        }
    }
}
