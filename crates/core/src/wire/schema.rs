//! The layout of messages in each version, as data.
//!
//! The derive macro generates it from the same attributes as the codec. So a comparison with Kafka's own schemas checks
//! what is really sent.

use std::ops::RangeInclusive;

use crate::wire::message::Message;

/// The schema of a message in all supported versions.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageSchema {
    /// The supported versions.
    pub versions: RangeInclusive<i16>,
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    pub flexible_since: i16,
    /// Its name and fields.
    pub schema: Schema,
}

impl MessageSchema {
    /// The schema of `M`.
    pub fn of<M: Message>() -> Self {
        Self { versions: M::MIN_VERSION..=M::MAX_VERSION, flexible_since: M::FLEXIBLE_SINCE, schema: M::schema() }
    }
}

/// The fields of a struct, in the order in which they are encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The struct's name.
    pub name: &'static str,
    /// Its fields.
    pub fields: Vec<FieldSchema>,
}

/// A field in all versions.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldSchema {
    /// The name, in `snake_case`.
    pub name: &'static str,
    /// The type.
    pub field_type: FieldType,
    /// The first and last version that has the field; `i16::MAX` if there is no last one.
    pub versions: (i16, i16),
    /// The first and last version in which it may be null. An optional integer is never null; -1 stands for `None`.
    pub nullable: Option<(i16, i16)>,
    /// The tag, and the first version in which it is a tagged field.
    pub tag: Option<(u32, i16)>,
    /// The default value, as printed by `Debug`.
    pub default: String,
    /// Whether its value is silently dropped in a version without the field.
    pub ignorable: bool,
}

/// The type of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldType {
    /// A primitive type, by Kafka's name: `int32`, `string`, `records`.
    Primitive(&'static str),
    /// An array of elements of one type.
    Array(Box<Self>),
    /// A struct.
    Struct(Schema),
}
