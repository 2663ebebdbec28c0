//! Messages: what can be encoded and decoded in a range of versions.
//!
//! [`Message`] and [`Request`] are always derived. [`Field`] is a part of a message: it is implemented here for
//! primitives, and derived for structs.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::wire::api::ApiKey;
use crate::wire::error_code::ErrorCode;
use crate::wire::primitives::{DecodeError, Decoder, EncodeError, Encoder, Uuid};
use crate::wire::records::Records;
use crate::wire::schema::{FieldType, Schema};

/// A request or response: a struct with a range of versions.
pub trait Message: Field + Debug + Clone + PartialEq + Default + Send + Sync + 'static {
    /// Kafka's name of the message, such as `FetchResponse`.
    const NAME: &'static str;
    /// The oldest supported version.
    const MIN_VERSION: i16;
    /// The newest supported version.
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields (KIP-482); `i16::MAX` if there is none.
    const FLEXIBLE_SINCE: i16;

    /// Appends the message in this version.
    ///
    /// An error if the version is not supported, or cannot carry a value that is not `ignorable`.
    fn encode(&self, version: i16, encoder: &mut Encoder) -> Result<(), EncodeError> {
        let context = Self::context(version)
            .ok_or_else(|| EncodeError::new("the version is unknown").in_message(Self::NAME, version))?;
        self.write(encoder, context).map_err(|error| error.in_message(Self::NAME, version))
    }

    /// Reads a message in this version from the front of the remaining bytes; bytes after it remain.
    fn decode(version: i16, decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let context = Self::context(version)
            .ok_or_else(|| DecodeError::new("the version is unknown").in_message(Self::NAME, version))?;
        Self::read(decoder, context).map_err(|error| error.in_message(Self::NAME, version))
    }

    /// Reads a message in this version that takes all of `body`.
    fn decode_exact(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::from(body);
        let message = Self::decode(version, &mut decoder)?;
        decoder.expect_end().map_err(|error| error.in_message(Self::NAME, version))?;
        Ok(message)
    }

    /// The broker's throttle time in milliseconds (KIP-219); 0 if the message has none.
    fn throttle_time_ms(&self) -> i32 {
        0
    }

    /// The fields in every version.
    fn schema() -> Schema {
        match Self::field_type() {
            FieldType::Struct(schema) => schema,
            FieldType::Primitive(_) | FieldType::Array(_) => Schema { name: Self::NAME, fields: Vec::new() },
        }
    }

    /// How to encode fields in a version; `None` if it is not supported.
    #[doc(hidden)]
    fn context(version: i16) -> Option<Context> {
        (Self::MIN_VERSION..=Self::MAX_VERSION).contains(&version).then_some(Context {
            version,
            flexible: version >= Self::FLEXIBLE_SINCE,
            nullable: false,
        })
    }
}

/// A message that is answered with another one.
pub trait Request: Message {
    /// The API of the request.
    const KEY: ApiKey;
    /// The type of the response.
    type Response: Message;
}

/// Any request, for code that passes it on without knowing its type.
pub trait AnyRequest: Debug + Send + Sync {
    /// The API of the request.
    fn key(&self) -> ApiKey;

    /// The supported versions.
    fn versions(&self) -> RangeInclusive<i16> {
        self.key().versions()
    }

    /// Appends the request in this version, without a header.
    fn encode_body(&self, version: i16, encoder: &mut Encoder) -> Result<(), EncodeError>;
}

impl<R: Request> AnyRequest for R {
    fn key(&self) -> ApiKey {
        R::KEY
    }

    fn encode_body(&self, version: i16, encoder: &mut Encoder) -> Result<(), EncodeError> {
        self.encode(version, encoder)
    }
}

/// How a field is encoded, as decided by the message around it.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The version of the message.
    pub version: i16,
    /// Whether lengths are compact, and structs end with tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether this field may be null; its elements never may.
    pub nullable: bool,
}

impl Context {
    /// The same, with another `nullable`.
    #[must_use]
    pub fn with_nullable(self, nullable: bool) -> Self {
        Self { nullable, ..self }
    }
}

/// A value inside a message.
pub trait Field: Sized {
    /// Appends the value.
    fn write(&self, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError>;

    /// Reads a value from the front of the remaining bytes.
    fn read(decoder: &mut Decoder, context: Context) -> Result<Self, DecodeError>;

    /// The smallest size of a value, in bytes: it bounds the number of elements of an array.
    fn min_size(context: Context) -> usize;

    /// Its type in Kafka's schemas.
    fn field_type() -> FieldType;
}

/// A value that can be null, which makes `Option` of it a [`Field`].
pub trait Nullable: Field {
    /// Appends a value, or null.
    fn write_option(value: Option<&Self>, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError>;

    /// Reads a value, or null.
    fn read_option(decoder: &mut Decoder, context: Context) -> Result<Option<Self>, DecodeError>;
}

impl<T: Nullable> Field for Option<T> {
    fn write(&self, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError> {
        T::write_option(self.as_ref(), encoder, context)
    }

    fn read(decoder: &mut Decoder, context: Context) -> Result<Self, DecodeError> {
        T::read_option(decoder, context)
    }

    fn min_size(context: Context) -> usize {
        // A null struct is one byte.
        if context.nullable { 1 } else { T::min_size(context) }
    }

    fn field_type() -> FieldType {
        T::field_type()
    }
}

macro_rules! numbers {
    ($($type:ty, $name:literal;)*) => {$(
        impl Field for $type {
            fn write(&self, encoder: &mut Encoder, _: Context) -> Result<(), EncodeError> {
                encoder.put_slice(&self.to_be_bytes());
                Ok(())
            }

            fn read(decoder: &mut Decoder, _: Context) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(decoder.array()?))
            }

            fn min_size(_: Context) -> usize {
                size_of::<Self>()
            }

            fn field_type() -> FieldType {
                FieldType::Primitive($name)
            }
        }
    )*};
}

numbers! {
    i8, "int8";
    i16, "int16";
    i32, "int32";
    i64, "int64";
    u16, "uint16";
    u32, "uint32";
    f64, "float64";
}

/// Kafka's -1 becomes `None`; other negative numbers have their own meanings and stay.
macro_rules! optional_numbers {
    ($($type:ty)*) => {$(
        impl Nullable for $type {
            fn write_option(value: Option<&Self>, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError> {
                value.unwrap_or(&-1).write(encoder, context)
            }

            fn read_option(decoder: &mut Decoder, context: Context) -> Result<Option<Self>, DecodeError> {
                Ok(Some(Self::read(decoder, context)?).filter(|value| *value != -1))
            }
        }
    )*};
}

optional_numbers!(i8 i16 i32 i64);

impl Field for bool {
    fn write(&self, encoder: &mut Encoder, _: Context) -> Result<(), EncodeError> {
        encoder.put_slice(&[u8::from(*self)]);
        Ok(())
    }

    fn read(decoder: &mut Decoder, _: Context) -> Result<Self, DecodeError> {
        Ok(decoder.array()? != [0])
    }

    fn min_size(_: Context) -> usize {
        1
    }

    fn field_type() -> FieldType {
        FieldType::Primitive("bool")
    }
}

impl Field for ErrorCode {
    fn write(&self, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError> {
        self.0.write(encoder, context)
    }

    fn read(decoder: &mut Decoder, context: Context) -> Result<Self, DecodeError> {
        i16::read(decoder, context).map(Self)
    }

    fn min_size(context: Context) -> usize {
        i16::min_size(context)
    }

    fn field_type() -> FieldType {
        i16::field_type()
    }
}

impl Field for Uuid {
    fn write(&self, encoder: &mut Encoder, _: Context) -> Result<(), EncodeError> {
        encoder.put_slice(&self.0);
        Ok(())
    }

    fn read(decoder: &mut Decoder, _: Context) -> Result<Self, DecodeError> {
        decoder.array().map(Self)
    }

    fn min_size(_: Context) -> usize {
        16
    }

    fn field_type() -> FieldType {
        FieldType::Primitive("uuid")
    }
}

/// Values with a length prefix. A null in a version without null is an error.
macro_rules! prefixed {
    ($($type:ty, $name:literal, $fixed_length:literal,
       |$value:ident, $encoder:ident, $flexible:ident| $write:expr, |$decoder:ident| $read:expr;)*) => {$(
        impl Field for $type {
            fn write(&self, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError> {
                Self::write_option(Some(self), encoder, context)
            }

            fn read(decoder: &mut Decoder, context: Context) -> Result<Self, DecodeError> {
                Self::read_option(decoder, context.with_nullable(false))?.ok_or_else(unexpected_null)
            }

            fn min_size(context: Context) -> usize {
                if context.flexible { 1 } else { $fixed_length }
            }

            fn field_type() -> FieldType {
                FieldType::Primitive($name)
            }
        }

        impl Nullable for $type {
            fn write_option($value: Option<&Self>, $encoder: &mut Encoder, context: Context) -> Result<(), EncodeError> {
                check_null($value.is_none(), context)?;
                let $flexible = context.flexible;
                $write
            }

            fn read_option($decoder: &mut Decoder, context: Context) -> Result<Option<Self>, DecodeError> {
                let $flexible = context.flexible;
                let value = $read;
                if value.is_none() && !context.nullable { Err(unexpected_null()) } else { Ok(value) }
            }
        }
    )*};
}

prefixed! {
    String, "string", 2,
        |value, encoder, flexible| encoder.put_string(value.map(String::as_str), flexible),
        |decoder| decoder.string(flexible)?;
    Bytes, "bytes", 4,
        |value, encoder, flexible| encoder.put_bytes(value.map(Bytes::as_ref), flexible),
        |decoder| decoder.optional_bytes(flexible)?;
    Records, "records", 4,
        |value, encoder, flexible| encoder.put_records(value, flexible),
        |decoder| decoder.optional_bytes(flexible)?.map(Self::from);
}

fn check_null(is_null: bool, context: Context) -> Result<(), EncodeError> {
    if is_null && !context.nullable { Err(EncodeError::new("the version has no null for it")) } else { Ok(()) }
}

#[cold]
fn unexpected_null() -> DecodeError {
    DecodeError::new("it is null where the version has no null")
}

impl<T: Field> Field for Vec<T> {
    fn write(&self, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError> {
        Self::write_option(Some(self), encoder, context)
    }

    fn read(decoder: &mut Decoder, context: Context) -> Result<Self, DecodeError> {
        Self::read_option(decoder, context.with_nullable(false))?.ok_or_else(unexpected_null)
    }

    fn min_size(context: Context) -> usize {
        if context.flexible { 1 } else { 4 }
    }

    fn field_type() -> FieldType {
        FieldType::Array(Box::new(T::field_type()))
    }
}

/// For how many elements an array reserves memory before they are read: a large count is cheap to send, and an element
/// takes more memory than bytes in the message.
const MAX_RESERVED: usize = 1024;

impl<T: Field> Nullable for Vec<T> {
    fn write_option(value: Option<&Self>, encoder: &mut Encoder, context: Context) -> Result<(), EncodeError> {
        check_null(value.is_none(), context)?;
        encoder.put_length(value.map(Vec::len), context.flexible)?;
        let context = context.with_nullable(false);
        value.into_iter().flatten().try_for_each(|element| element.write(encoder, context))
    }

    fn read_option(decoder: &mut Decoder, context: Context) -> Result<Option<Self>, DecodeError> {
        let Some(count) = decoder.length(context.flexible)? else {
            return if context.nullable { Ok(None) } else { Err(unexpected_null()) };
        };
        let context = context.with_nullable(false);
        if count > decoder.remaining() / T::min_size(context).max(1) {
            return Err(DecodeError::new("the array has more elements than fit into the bytes that are left"));
        }
        let mut elements = Self::with_capacity(count.min(MAX_RESERVED));
        for _ in 0..count {
            elements.push(T::read(decoder, context)?);
        }
        Ok(Some(elements))
    }
}

#[cfg(test)]
mod tests {
    use kavka_derive::Message;

    use super::*;
    use crate::error::{Error, ErrorKind};

    /// A struct with one field for each rule.
    #[derive(Debug, Clone, PartialEq, Message)]
    #[kafka(versions = "0-4", flexible = 2)]
    struct Sample {
        always: i32,
        #[kafka(since = 1, until = 3)]
        some_versions: i16,
        #[kafka(since = 1, ignorable, default = 7)]
        ignorable: i64,
        #[kafka(nullable = 1)]
        text: Option<String>,
        epoch: Option<i32>,
        #[kafka(nullable = 0, nullable_until = 3)]
        parts: Option<Vec<Part>>,
        #[kafka(since = 2, tag = 1, nullable = 2)]
        tagged: Option<String>,
        #[kafka(since = 1, tag = 0, tagged = 3)]
        tagged_later: Bytes,
        #[kafka(nullable = 4)]
        part: Option<Part>,
    }

    #[derive(Debug, Clone, PartialEq, Message)]
    struct Part {
        id: i8,
        #[kafka(since = 3)]
        flag: bool,
    }

    fn sample(version: i16) -> Sample {
        Sample {
            always: -5,
            some_versions: if (1..=3).contains(&version) { 300 } else { 0 },
            ignorable: if version >= 1 { 1 << 40 } else { 7 },
            text: Some("žluťoučký kůň".to_owned()),
            epoch: Some(3),
            parts: Some(vec![Part { id: 1, flag: version >= 3 }, Part { id: -1, flag: false }]),
            tagged: (version >= 2).then(|| "tag".to_owned()),
            tagged_later: if version >= 1 { Bytes::from_static(b"later") } else { Bytes::new() },
            part: Some(Part { id: 9, flag: false }),
        }
    }

    fn encode(message: &impl Message, version: i16) -> Bytes {
        let mut encoder = Encoder::new();
        message.encode(version, &mut encoder).unwrap();
        let len = encoder.len();
        let bytes = encoder.finish().concat();
        assert_eq!(bytes.len(), len);
        bytes.into()
    }

    fn refusal(message: &impl Message, version: i16) -> String {
        message.encode(version, &mut Encoder::new()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back_in_every_version() {
        for version in 0..=4 {
            assert_eq!(Sample::decode_exact(version, encode(&sample(version), version)).unwrap(), sample(version));
        }
    }

    #[test]
    fn a_default_message_has_the_defaults_of_its_fields() {
        assert_eq!(Sample::default().ignorable, 7);
        assert_eq!(Sample::default().epoch, None);
    }

    #[test]
    fn fixed_lengths_come_before_compact_ones() {
        let message = Sample { text: Some("ab".into()), part: Some(Part::default()), ..Sample::default() };
        let expected = [
            &[0, 0, 0, 0][..],     // always
            &[0, 2, b'a', b'b'],   // text
            &[255, 255, 255, 255], // epoch: -1 is none
            &[255, 255, 255, 255], // parts: null
            &[0],                  // part
        ];
        assert_eq!(encode(&message, 0), expected.concat());
        let expected = [
            &[0, 0, 0, 0, 0, 0][..],   // always, some_versions
            &[0, 0, 0, 0, 0, 0, 0, 7], // ignorable
            &[3, b'a', b'b'],          // text: its length and one
            &[255, 255, 255, 255],     // epoch
            &[0],                      // parts: null
            &[1],                      // tagged_later: empty, and still in its place
            &[0, 0],                   // part, and no tagged field in it
            &[1, 1, 2, 2, b't'],       // one tagged field: tag 1, 2 bytes
        ];
        assert_eq!(encode(&Sample { tagged: Some("t".into()), ..message }, 2), expected.concat());
    }

    #[test]
    fn a_nullable_struct_has_a_byte_before_it_where_it_may_be_null() {
        let part = |part| Sample { part, text: Some(String::new()), parts: Some(vec![]), ..Sample::default() };
        let (some, none) = (encode(&part(Some(Part { id: 9, flag: true })), 4), encode(&part(None), 4));
        assert!(some.ends_with(&[1, 9, 1, 0, 0]), "{some:?}");
        assert!(none.ends_with(&[255, 0]), "{none:?}");
        assert_eq!(Sample::decode_exact(4, none).unwrap().part, None);
    }

    #[test]
    fn a_value_the_version_lacks_is_refused_unless_it_is_ignorable() {
        let message = Sample { some_versions: 1, part: Some(Part::default()), ..Sample::default() };
        assert_eq!(refusal(&message, 0), "Sample.some_versions: the version has no such field (Sample v0)");
        let message =
            Sample { ignorable: 8, text: Some(String::new()), part: Some(Part::default()), ..Sample::default() };
        assert_eq!(Sample::decode_exact(0, encode(&message, 0)).unwrap().ignorable, 7);
        let flag = Sample { parts: Some(vec![Part { id: 0, flag: true }]), ..message };
        assert_eq!(refusal(&flag, 2), "Part.flag: the version has no such field (Sample v2)");
    }

    #[test]
    fn null_is_refused_both_ways_where_the_version_has_none() {
        let message = Sample { part: Some(Part::default()), ..Sample::default() };
        assert_eq!(refusal(&message, 0), "Sample.text: the version has no null for it (Sample v0)");
        let mut null_text = encode(&message, 1).to_vec();
        null_text.drain(4..14);
        let error = Sample::decode_exact(0, null_text.into()).unwrap_err();
        assert_eq!(error.to_string(), "Sample.text: it is null where the version has no null (Sample v0)");
        assert_eq!(Error::from(error).kind(), ErrorKind::Malformed);
    }

    #[test]
    fn unknown_tags_are_skipped() {
        let mut bytes = encode(&Part { id: 4, flag: true }.in_sample(), 3).to_vec();
        assert_eq!(bytes.pop(), Some(0));
        bytes.extend([2, 0, 3, 2, b'x', 0]);
        // Tag 0 is known, and its value must fill the field.
        assert!(Sample::decode_exact(3, bytes.clone().into()).is_err());
        let start = bytes.len() - 6;
        bytes.splice(start.., [2, 9, 3, 2, b'x', 0, 100, 0]);
        assert_eq!(Sample::decode_exact(3, bytes.into()).unwrap(), Part { id: 4, flag: true }.in_sample());
    }

    impl Part {
        fn in_sample(self) -> Sample {
            Sample { part: Some(self), text: Some(String::new()), ..Sample::default() }
        }
    }

    #[test]
    fn a_count_that_cannot_fit_is_refused_before_anything_is_allocated() {
        let mut fixed = vec![0; 4 + 2 + 4];
        fixed.extend([0x7f, 255, 255, 255, 0, 0, 0]);
        let error = Sample::decode_exact(0, fixed.into()).unwrap_err();
        assert!(error.to_string().starts_with("Sample.parts: the array has more elements than"), "{error}");
    }

    #[test]
    fn a_negative_length_that_is_not_null_is_refused() {
        let mut fixed = vec![0; 4 + 2 + 4];
        fixed.extend((-99_i32).to_be_bytes());
        let error = Sample::decode_exact(0, fixed.into()).unwrap_err();
        assert_eq!(error.to_string(), "Sample.parts: a length is negative (Sample v0)");
    }

    #[test]
    fn bytes_after_the_message_are_refused() {
        let mut bytes = encode(&sample(4), 4).to_vec();
        bytes.push(0);
        assert!(Sample::decode_exact(4, bytes.into()).is_err());
    }

    #[test]
    fn a_version_we_do_not_speak_is_refused() {
        assert_eq!(refusal(&Sample::default(), 5), "the version is unknown (Sample v5)");
        assert!(Sample::decode_exact(-1, Bytes::new()).is_err());
    }

    #[test]
    fn every_prefix_of_a_message_is_refused_and_none_panics() {
        for version in 0..=4 {
            let bytes = encode(&sample(version), version);
            for end in 0..bytes.len() {
                assert!(Sample::decode_exact(version, bytes.slice(..end)).is_err(), "{end} bytes of v{version}");
            }
        }
    }
}
