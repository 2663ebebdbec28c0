//! What a message looks like in each version, as data.
//!
//! The derive makes it from the same attributes as the codec, so that what is compared with Kafka's own
//! schemas is what goes over the wire.

use std::ops::RangeInclusive;

use crate::wire::message::Message;

/// A whole message in every version we speak.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageSchema {
    /// The versions we speak.
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

/// The fields of one struct, in the order of the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The struct's name.
    pub name: &'static str,
    /// Its fields.
    pub fields: Vec<FieldSchema>,
}

/// One field in all versions.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldSchema {
    /// The field's name in `snake_case`.
    pub name: &'static str,
    /// What it holds.
    pub field_type: FieldType,
    /// The first and last version that has it; `i16::MAX` for no last one.
    pub versions: (i16, i16),
    /// The first and last version in which it may be null. An optional integer is never null: -1 stands for it.
    pub nullable: Option<(i16, i16)>,
    /// The tag, and the first version in which the field is tagged.
    pub tag: Option<(u32, i16)>,
    /// The default value as `Debug` prints it.
    pub default: String,
    /// Whether a version that lacks the field drops its value in silence.
    pub ignorable: bool,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldType {
    /// A type of fixed or prefixed length, by Kafka's name for it: `int32`, `string`, `records`.
    Primitive(&'static str),
    /// Any number of elements of one type.
    Array(Box<Self>),
    /// A struct of its own.
    Struct(Schema),
}
