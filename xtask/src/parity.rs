//! Compares our messages with Kafka's schemas, field by field and version by version.
//!
//! Kafka's schemas are the files `common/message/*.json` in every `kafka-clients` jar; none of them is copied into the
//! project. Two releases cover all versions: the last Kafka 3 has the old ones, which 4.0 has dropped, and the newest
//! Kafka the new ones. A version that both have is compared with both. A version that its release marks as unstable is
//! ignored; all others must be supported.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kavka_core::wire::ApiKey;
use kavka_core::wire::schema::{FieldSchema, FieldType, MessageSchema, Schema};
use serde_json::Value;

use crate::Outcome;

/// The releases to compare with by default, the newest last.
const RELEASES: [&str; 2] = [
    include_str!("../../tests/kafka/versions/latest_3").trim_ascii(),
    include_str!("../../tests/kafka/versions/latest").trim_ascii(),
];

/// The first and the last version.
type Versions = (i16, i16);

/// A field in one version, in a form that can be compared.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    path: String,
    /// Kafka's type, nullability and tag, and the default if a peer can leave the field out.
    description: String,
}

/// Compares all messages with the schemas in these jars or directories, by default those of [`RELEASES`].
pub(crate) fn run(repository: &Path, sources: &[PathBuf]) -> Outcome {
    let sources = if sources.is_empty() { fetch(repository)? } else { sources.to_vec() };
    let directories = sources.iter().map(|source| unpack(repository, source)).collect::<Result<Vec<_>, _>>()?;
    let (mut faults, mut messages, mut versions, mut fields) = (Vec::new(), 0, 0, 0);
    for ours in ApiKey::ALL.iter().flat_map(|key| key.schemas().map(|schema| (key.number(), schema))) {
        match compare(&ours.1, ours.0, &directories) {
            Ok((compared_versions, compared_fields)) => {
                messages += 1;
                versions += compared_versions;
                fields += compared_fields;
            }
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() {
        Ok(format!(
            "{messages} messages, {versions} versions of them and {fields} fields in those are as Kafka has them"
        ))
    } else {
        Err(faults)
    }
}

/// Compares one message; returns the number of versions and fields, or the differences.
fn compare(ours: &MessageSchema, number: i16, directories: &[PathBuf]) -> Result<(usize, usize), Vec<String>> {
    let name = ours.schema.name;
    let mut theirs = Vec::new();
    for directory in directories {
        theirs.push(TheirMessage::read(directory, name)?);
    }
    let mut faults = Vec::new();
    let mut spoken: BTreeMap<i16, usize> = BTreeMap::new();
    for message in &theirs {
        if message.json["apiKey"] != number {
            faults.push(format!("{name}: Kafka's number is {}, ours {number}", message.json["apiKey"]));
        }
        for version in message.first..=message.last {
            let (our_lines, their_lines) =
                (our_lines(&ours.schema, version, (0, message.last)), message.lines(version)?);
            spoken.insert(version, our_lines.len());
            let (flexible, their_flexible) = (version >= ours.flexible_since, version >= message.flexible_since);
            if flexible != their_flexible {
                faults.push(format!("{name} v{version}: flexible is {flexible} here, {their_flexible} in Kafka"));
            }
            faults.extend(
                differences(&our_lines, &their_lines).map(|difference| format!("{name} v{version}: {difference}")),
            );
        }
    }
    let expected: Vec<i16> = ours.versions.clone().collect();
    if !spoken.keys().eq(&expected) {
        faults.push(format!("{name}: we speak {:?}, Kafka {:?}", ours.versions, spoken.keys()));
    }
    if faults.is_empty() { Ok((spoken.len(), spoken.values().sum())) } else { Err(faults) }
}

/// The differences between two lists of fields, in order.
fn differences(ours: &[Line], theirs: &[Line]) -> impl Iterator<Item = String> {
    let describe = |line: Option<&Line>| {
        line.map_or_else(|| "nothing".to_owned(), |line| format!("{} {}", line.path, line.description))
    };
    (0..ours.len().max(theirs.len()))
        .map(|index| (ours.get(index), theirs.get(index)))
        .filter(|(ours, theirs)| ours != theirs)
        .map(move |(ours, theirs)| format!("here {}, in Kafka {}", describe(ours), describe(theirs)))
        // Everything after the first misplaced field differs, too.
        .take(3)
        .collect::<Vec<_>>()
        .into_iter()
}

/// Our fields in this version: the plain ones in order, then the tagged ones by tag.
///
/// `around` are the versions that have the struct.
fn our_lines(schema: &Schema, version: i16, around: Versions) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut tagged = Vec::new();
    for field in schema.fields.iter().filter(|field| contains(field.versions, version)) {
        let tag = field.tag.filter(|(_, from)| version >= *from).map(|(tag, _)| tag);
        let nullable = field.nullable.is_some_and(|versions| contains(versions, version));
        let (type_name, inner) = our_type(&field.field_type);
        let default = (tag.is_some() || can_lack(field.versions, around)).then(|| our_default(field, inner.is_some()));
        let line = Line { path: field.name.to_owned(), description: describe(&type_name, nullable, tag, default) };
        let parts = inner.map(|inner| our_lines(inner, version, within(field.versions, around))).unwrap_or_default();
        add(&mut lines, &mut tagged, tag, line, parts);
    }
    finish(lines, tagged)
}

fn our_type(field_type: &FieldType) -> (String, Option<&Schema>) {
    match field_type {
        FieldType::Primitive(name) => ((*name).to_owned(), None),
        FieldType::Struct(schema) => (schema.name.to_owned(), Some(schema)),
        FieldType::Array(element) => {
            let (name, inner) = our_type(element);
            (format!("[]{name}"), inner)
        }
    }
}

/// Our default in Kafka's form; that of a struct is in its fields.
fn our_default(field: &FieldSchema, is_struct: bool) -> String {
    let text = field.default.as_str();
    match &field.field_type {
        FieldType::Array(_) => if text == "None" { "null" } else { text }.to_owned(),
        _ if is_struct => String::new(),
        FieldType::Primitive(name) if name.starts_with("int") => {
            if text == "None" {
                return "-1".to_owned();
            }
            // An error code prints as `NONE (0)`.
            let digits = text.trim_start_matches("Some(").rsplit('(').next().unwrap_or_default();
            digits.trim_end_matches(')').to_owned()
        }
        _ => if text == "None" { "null" } else { text.trim_start_matches('b').trim_matches('"') }.to_owned(),
    }
}

/// A message in one release.
struct TheirMessage {
    json: Value,
    first: i16,
    last: i16,
    flexible_since: i16,
}

impl TheirMessage {
    fn read(directory: &Path, name: &str) -> Result<Self, Vec<String>> {
        let json = read_json(directory, name)?;
        // Only the request says that the newest version of both messages is unstable.
        let request = read_json(directory, &name.replace("Response", "Request"))?;
        let (first, last) = versions(&json["validVersions"]).ok_or_else(|| vec![format!("{name}: no versions")])?;
        let unstable = i16::from(request["latestVersionUnstable"] == true);
        let flexible_since = versions(&json["flexibleVersions"]).map_or(i16::MAX, |(first, _)| first);
        Ok(Self { first, last: last - unstable, flexible_since, json })
    }

    fn lines(&self, version: i16) -> Result<Vec<Line>, Vec<String>> {
        self.struct_lines(&self.json["fields"], version, (0, self.last))
    }

    fn struct_lines(&self, fields: &Value, version: i16, around: Versions) -> Result<Vec<Line>, Vec<String>> {
        let mut lines = Vec::new();
        let mut tagged = Vec::new();
        for field in fields.as_array().into_iter().flatten() {
            let is_in = |key: &str| versions(&field[key]).is_some_and(|versions| contains(versions, version));
            let Some(present) = versions(&field["versions"]).filter(|present| contains(*present, version)) else {
                continue;
            };
            let (Some(name), Some(type_name)) = (field["name"].as_str(), field["type"].as_str()) else {
                return Err(vec![format!("a field without name or type: {field}")]);
            };
            let tag = field["tag"].as_u64().filter(|_| is_in("taggedVersions")).map(|tag| tag as u32);
            let inner = self.inner(field, type_name);
            let default =
                (tag.is_some() || can_lack(present, around)).then(|| their_default(field, type_name, inner.is_some()));
            let description = describe(type_name, is_in("nullableVersions"), tag, default);
            let line = Line { path: snake_case(name), description };
            let parts = inner.map(|inner| self.struct_lines(inner, version, within(present, around)));
            let parts = parts.transpose()?.unwrap_or_default();
            add(&mut lines, &mut tagged, tag, line, parts);
        }
        Ok(finish(lines, tagged))
    }

    /// The fields of the struct that a field holds: defined in the field, or shared by several fields.
    fn inner<'a>(&'a self, field: &'a Value, type_name: &str) -> Option<&'a Value> {
        let struct_name = type_name.trim_start_matches("[]");
        if !struct_name.starts_with(|first: char| first.is_ascii_uppercase()) {
            return None;
        }
        let common = self.json["commonStructs"].as_array().into_iter().flatten();
        let shared = common.filter(|candidate| candidate["name"] == struct_name).map(|found| &found["fields"]).next();
        shared.or_else(|| field.get("fields"))
    }
}

fn read_json(directory: &Path, name: &str) -> Result<Value, Vec<String>> {
    let path = directory.join("common/message").join(format!("{name}.json"));
    let fault = |error: &dyn Display| vec![format!("{}: {error}", path.display())];
    let text = fs::read_to_string(&path).map_err(|error| fault(&error))?;
    serde_json::from_str(&without_comments(&text)).map_err(|error| fault(&error))
}

/// Kafka's default. For a nullable field that was not sent, Kafka uses an empty value in some cases; we always use
/// null.
fn their_default(field: &Value, type_name: &str, is_struct: bool) -> String {
    let text = match &field["default"] {
        Value::Null if field.get("nullableVersions").is_some() => "null",
        Value::Null => "",
        Value::String(text) => text,
        other => return other.to_string(),
    };
    match (type_name, text) {
        (_, "null") => "null".to_owned(),
        (array, _) if array.starts_with("[]") => "[]".to_owned(),
        (_, _) if is_struct => String::new(),
        ("bool", "") => "false".to_owned(),
        ("uuid", "") => "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        (integer, "") if integer.starts_with("int") => "0".to_owned(),
        (_, text) => text
            .strip_prefix("0x")
            .and_then(|hex| i64::from_str_radix(hex, 16).ok())
            .map_or_else(|| text.to_owned(), |number| number.to_string()),
    }
}

fn describe(type_name: &str, nullable: bool, tag: Option<u32>, default: Option<String>) -> String {
    let nullable = if nullable { ", nullable" } else { "" };
    let tag = tag.map(|tag| format!(", tag {tag}")).unwrap_or_default();
    let default = default.map(|default| format!(", default {default:?}")).unwrap_or_default();
    format!("({type_name}{nullable}{tag}{default})")
}

/// Whether a version that has the struct around a field may lack the field, so that its default matters.
fn can_lack(field: Versions, around: Versions) -> bool {
    within(field, around) != around
}

fn within(inner: Versions, outer: Versions) -> Versions {
    (inner.0.max(outer.0), inner.1.min(outer.1))
}

/// Adds a field, followed by the fields of its struct, to the plain or the tagged ones.
fn add(lines: &mut Vec<Line>, tagged: &mut Vec<(u32, Vec<Line>)>, tag: Option<u32>, line: Line, parts: Vec<Line>) {
    let parent = line.path.clone();
    let parts = parts.into_iter().map(|part| Line { path: format!("{parent}.{}", part.path), ..part });
    let all = std::iter::once(line).chain(parts);
    match tag {
        None => lines.extend(all),
        Some(tag) => tagged.push((tag, all.collect())),
    }
}

fn finish(mut lines: Vec<Line>, mut tagged: Vec<(u32, Vec<Line>)>) -> Vec<Line> {
    tagged.sort_by_key(|(tag, _)| *tag);
    lines.extend(tagged.into_iter().flat_map(|(_, lines)| lines));
    lines
}

fn contains((first, last): Versions, version: i16) -> bool {
    (first..=last).contains(&version)
}

/// Parses `0-12`, `3+` or `4`; `None` for `none` or a missing value.
fn versions(value: &Value) -> Option<Versions> {
    let text = value.as_str()?;
    if let Some(first) = text.strip_suffix('+') {
        return Some((first.parse().ok()?, i16::MAX));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Converts `PartitionIndex` to `partition_index`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

/// Removes the `//` comments from Kafka's JSON files.
fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let mut is_string = false;
        let mut end = line.len();
        for (index, character) in line.char_indices() {
            is_string ^= character == '"' && !line[..index].ends_with('\\');
            if !is_string && line[index..].starts_with("//") {
                end = index;
                break;
            }
        }
        kept.push_str(&line[..end]);
        kept.push('\n');
    }
    kept
}

/// The jars of [`RELEASES`] in `.kafka/jars`; Maven fetches missing ones.
fn fetch(repository: &Path) -> Result<Vec<PathBuf>, Vec<String>> {
    let directory = repository.join(".kafka/jars");
    let mut jars = Vec::new();
    for release in RELEASES {
        let jar = directory.join(format!("kafka-clients-{release}.jar"));
        if !jar.exists() {
            let mut maven = Command::new("mvn");
            maven.arg("-q").arg("-B").arg("dependency:copy");
            maven.arg(format!("-Dartifact=org.apache.kafka:kafka-clients:{release}"));
            maven.arg(format!("-DoutputDirectory={}", directory.display()));
            succeed(&mut maven)?;
        }
        jars.push(jar);
    }
    Ok(jars)
}

/// The directory with `common/message`: the source itself, or extracted from a jar with Python's zip module.
fn unpack(repository: &Path, source: &Path) -> Result<PathBuf, Vec<String>> {
    if source.is_dir() {
        return Ok(source.to_path_buf());
    }
    let directory = repository.join("target/parity").join(source.file_stem().unwrap_or_default());
    let script = "import sys, zipfile\n\
                  jar = zipfile.ZipFile(sys.argv[1])\n\
                  jar.extractall(sys.argv[2], [n for n in jar.namelist() if n.startswith('common/message/')])";
    succeed(Command::new("python3").arg("-c").arg(script).arg(source).arg(&directory))?;
    Ok(directory)
}

fn succeed(command: &mut Command) -> Result<(), Vec<String>> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(vec![format!("{command:?} ended with {status}")]),
        Err(error) => Err(vec![format!("{command:?} did not start: {error}")]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_taken_out_and_an_address_in_a_text_is_not() {
        assert_eq!(without_comments("a \"http://b\", // c\n// d\ne"), "a \"http://b\", \n\ne\n");
    }

    #[test]
    fn versions_are_one_a_range_or_open() {
        let read = |text: &str| versions(&Value::String(text.to_owned()));
        assert_eq!((read("4"), read("0-12"), read("3+")), (Some((4, 4)), Some((0, 12)), Some((3, i16::MAX))));
        assert_eq!((read("none"), versions(&Value::Null)), (None, None));
    }

    #[test]
    fn a_default_counts_where_a_version_can_lack_the_field() {
        assert!(can_lack((3, i16::MAX), (0, 9)) && can_lack((0, 8), (0, 9)));
        assert!(!can_lack((0, i16::MAX), (3, 9)) && !can_lack((3, 9), (3, 9)));
    }
}
