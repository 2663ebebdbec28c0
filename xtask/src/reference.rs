//! Generates `docs/reference/configuration.md` from the rows in `crates/core/src/config/`.

use std::path::Path;

use kavka_core::config::{ClientConfig, ConsumerConfig, GroupConfig, ProducerConfig, Setting};

use crate::Outcome;

const PATH: &str = "docs/reference/configuration.md";

const HEAD: &str = "\
# Configuration

<!-- Written by `make gen` from the rows in crates/core/src/config/: change them, not this page. -->

Each setting has its Kafka name, which errors and `from_properties` use, and its names in Rust and PyKafka. A setting
that Kafka's own clients do not have is marked *ours*. Times are in milliseconds, sizes in bytes. An unknown name, or a
value out of range, is refused before anything is sent.

Where PyKafka has another default than the engine, it stands after the argument's name. Arguments of PyKafka that are
not in these tables have no such setting; the docstrings of its classes explain them.
";

const TABLES: &[(&str, &str, &[Setting])] = &[
    ("Client", "`kavka::ClientConfig`, and the arguments of `pykafka.KafkaClient`.", ClientConfig::SETTINGS),
    ("Producer", "`kavka::ProducerConfig`, and the arguments of `Topic.get_producer`.", ProducerConfig::SETTINGS),
    (
        "Consumer",
        "`kavka::ConsumerConfig`, and the arguments of `Topic.get_simple_consumer`.",
        ConsumerConfig::SETTINGS,
    ),
    (
        "Group member",
        "`kavka::GroupConfig`, in addition to `ConsumerConfig`, and the arguments of `Topic.get_balanced_consumer`.",
        GroupConfig::SETTINGS,
    ),
];

/// Writes the page.
pub(crate) fn generate(repository: &Path) -> Outcome {
    let path = repository.join(PATH);
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, page()));
    written.map_err(|error| vec![format!("{PATH}: {error}")])?;
    Ok(format!("{PATH} is written"))
}

/// The error if the page is not fresh.
pub(crate) fn fault(repository: &Path) -> Option<String> {
    let there = std::fs::read_to_string(repository.join(PATH)).unwrap_or_default();
    (there != page()).then(|| format!("{PATH}: it is not what the rows in crates/core/src/config/ say: run `make gen`"))
}

fn page() -> String {
    let tables = TABLES.iter().map(|(title, about, settings)| {
        let rows: String = settings.iter().map(row).collect();
        format!(
            "\n## {title}\n\n{about}\n\n\
             | Kafka | Rust | PyKafka | Default | Allowed | What it does |\n|---|---|---|---:|---|---|\n{rows}"
        )
    });
    std::iter::once(HEAD.to_owned()).chain(tables).collect()
}

fn row(setting: &Setting) -> String {
    let origin = if setting.is_kafkas { "" } else { " *(ours)*" };
    let keyword = match (setting.pykafka, setting.pykafka_default) {
        (Some(keyword), Some(default)) => format!("`{keyword}` = `{default}`"),
        (Some(keyword), None) => format!("`{keyword}`"),
        (None, _) => String::new(),
    };
    let default = match (setting.default)() {
        default if default.is_empty() => "none".to_owned(),
        default => format!("`{default}`"),
    };
    let what: Vec<&str> = setting.doc.iter().map(|line| line.trim()).collect();
    let (name, field, allowed, what) = (setting.name, setting.field, setting.allowed(), what.join(" "));
    format!("| `{name}`{origin} | `{field}` | {keyword} | {default} | {allowed} | {what} |\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_every_name_and_the_bounds() {
        let page = page();
        let linger = "| `linger.ms` | `linger` | `linger_ms` | `5` | 0 or more | How long a batch waits";
        assert!(page.contains(linger), "{page}");
        assert!(page.contains("| `max.queued.records` *(ours)* |"), "{page}");
        assert!(page.lines().filter(|line| line.starts_with("| `")).all(|line| line.matches(" | ").count() == 5));
    }
}
