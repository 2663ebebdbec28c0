//! Finds settings by name, and suggests the nearest one for an unknown name.

use super::security::{Foreign, foreign};
use super::{ClientConfig, ConsumerConfig, GroupConfig, ProducerConfig, Setting};
use crate::error::{Error, ErrorKind, printable};

/// All settings: of the client, the producer, the consumer and the group member.
pub fn all_settings() -> impl Iterator<Item = &'static Setting> {
    let tables = [ClientConfig::SETTINGS, ProducerConfig::SETTINGS, ConsumerConfig::SETTINGS, GroupConfig::SETTINGS];
    tables.into_iter().flatten()
}

/// Where `text` mentions a setting, not counting longer names and paths that the name is a part of.
pub fn mentions<'a>(setting: &'a str, text: &'a str) -> impl Iterator<Item = usize> + 'a {
    let goes_on = |c: char| c.is_alphanumeric() || "_-/\\".contains(c);
    let is_alone = move |start: usize| {
        let before = text.get(..start).unwrap_or_default();
        let after = text.get(start.saturating_add(setting.len())..).unwrap_or_default();
        // A dot may end the sentence.
        !before.ends_with(goes_on) && !before.ends_with('.') && !after.trim_start_matches('.').starts_with(goes_on)
    };
    text.match_indices(setting).map(|(start, _)| start).filter(move |start| is_alone(*start))
}

/// The text with the first mention of each setting followed by what else says the same, such as the option of a
/// command: `(setting, option)`.
pub fn beside_mentions<'a>(mut text: String, options: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    for (setting, option) in options {
        let place = mentions(setting, &text).next();
        if let Some(start) = place {
            let is_in_parentheses = text.get(..start).is_some_and(|before| before.ends_with('('));
            let shown = if is_in_parentheses { format!(", {option}") } else { format!(" ({option})") };
            text.insert_str(start + setting.len(), &shown);
        }
    }
    text
}

/// Why a setting of Java's client or of librdkafka has no effect here, and may be ignored, in a sentence that begins
/// with its name. `None` for every other name, and for those that are refused. Of the value it shows nothing.
pub fn without_effect(name: &str, value: &str) -> Option<String> {
    match foreign(name, value) {
        Some(Foreign::Unneeded(why)) => Some(format!("{name} has no effect here, because {why}")),
        Some(Foreign::Refused(_)) | None => None,
    }
}

/// The error for a name that is in none of `tables`. Of the value it shows nothing.
///
/// What looks like no name is not shown: it may be a line of a private key.
pub(super) fn unknown(name: &str, value: &str, tables: &[&'static [Setting]]) -> Error {
    let what = if let Some(why) = without_effect(name, value) {
        format!("{why}: leave it out")
    } else if let Some(Foreign::Refused(instead)) = foreign(name, value) {
        format!("{name} is not supported: {instead}")
    } else if let Some(other) = all_settings().find(|setting| setting.name == name) {
        format!("{name} is not a setting of this kind; it is {}", owner(other))
    } else if let Some(nearest) = nearest(name, tables) {
        format!("no setting is called `{}`; did you mean {nearest}?", printable(name))
    } else if looks_like_a_name(name) {
        format!("no setting is called `{name}`")
    } else {
        "no setting is called so; the name is not shown, because it may be a part of a secret: each line of a value but \
         the last must end with \\"
            .to_owned()
    };
    Error::new(ErrorKind::Config, what)
}

/// Whether these are at least two short words in lower case, with dots or underscores between them. Base64 has neither.
fn looks_like_a_name(name: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    name.len() <= 60 && name.contains(['.', '_']) && name.split(['.', '_']).all(is_word)
}

/// What the setting belongs to, in words.
fn owner(setting: &Setting) -> &'static str {
    let is_in = |table: &[Setting]| table.iter().any(|other| other.name == setting.name);
    if is_in(ClientConfig::SETTINGS) {
        "a client's setting"
    } else if is_in(ProducerConfig::SETTINGS) {
        "a producer's setting"
    } else if is_in(ConsumerConfig::SETTINGS) {
        "a consumer's setting"
    } else {
        "a setting of a group's member"
    }
}

/// The setting that `name` most likely means.
///
/// Compares names by edit distance, ignoring case, and with dots in place of underscores. PyKafka's keywords count,
/// too. A setting is not suggested if more than a third of the name would have to change.
fn nearest(name: &str, tables: &[&'static [Setting]]) -> Option<&'static str> {
    let wanted = plain(name);
    let distance = |setting: &Setting| {
        let known = [setting.name, setting.field].into_iter().chain(setting.pykafka);
        known.map(|known| edits(&wanted, &plain(known))).min().unwrap_or(usize::MAX)
    };
    let settings = tables.iter().copied().flatten();
    let (edits, setting) = settings.map(|setting| (distance(setting), setting)).min_by_key(|(edits, _)| *edits)?;
    (edits <= wanted.chars().count() / 3).then_some(setting.name)
}

/// The choice that `text` most likely means, by the same rule.
pub(super) fn nearest_choice(text: &str, choices: &[&'static str]) -> Option<&'static str> {
    let wanted = plain(text);
    let distances = choices.iter().map(|choice| (edits(&wanted, &plain(choice)), *choice));
    let (edits, choice) = distances.min_by_key(|(edits, _)| *edits)?;
    (edits <= wanted.chars().count() / 3 && !choice.is_empty()).then_some(choice)
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['_', '-'], ".")
}

/// The edit distance: how many letters to add, remove or replace.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    // `costs[n]`: from the letters of `one` so far to the first `n` letters of `other`.
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
    fn mentions_are_whole_names() {
        let text = "session.timeout.ms: group.max.session.timeout.ms allows less (session.timeout.ms). Set session.timeout.ms.";
        assert_eq!(mentions("session.timeout.ms", text).collect::<Vec<_>>(), [0, 62, 87]);
        for longer in ["ssl.key.passwords", "my.ssl.key.password", "/ssl.key.password", "ssl.key.password.txt"] {
            assert_eq!(mentions("ssl.key.password", longer).next(), None, "{longer}");
        }
    }

    #[test]
    fn options_are_named_beside_the_first_mention_of_their_settings() {
        let options = [("ssl.key.location", "--tls-key"), ("ssl.key.password", "$KEY_PASSWORD")];
        for (text, expected) in [
            ("ssl.key.location is missing", "ssl.key.location (--tls-key) is missing"),
            ("encrypted (ssl.key.password)", "encrypted (ssl.key.password, $KEY_PASSWORD)"),
            (
                "`ssl.key.passwords` is not ssl.key.password; ssl.key.password is",
                "`ssl.key.passwords` is not ssl.key.password ($KEY_PASSWORD); ssl.key.password is",
            ),
            ("linger.ms is wrong", "linger.ms is wrong"),
        ] {
            assert_eq!(beside_mentions(text.to_owned(), options), expected);
        }
    }

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
        assert_eq!(nearest("transactional.id", &tables), None);
    }

    #[test]
    fn what_looks_like_no_name_is_not_shown() {
        for name in ["key.serializer", "listener.name.sasl-ssl.port", "use_greenlets2"] {
            assert!(unknown(name, "", &[]).to_string().contains(name), "{name}");
        }
        let long = "a.".repeat(30) + "b";
        for name in ["hunter2", "a.Canary", "a.canary+", "a..canary", "a canary.b", "", long.as_str()] {
            let text = unknown(name, "", &[ClientConfig::SETTINGS]).to_string();
            assert!(text.starts_with("no setting is called so; "), "{name}: {text}");
        }
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
