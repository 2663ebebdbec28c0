//! Parses and checks the `#[kafka(...)]` attributes: contradictions are compile errors at the attribute.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, Expr, Field, Ident, LitInt, LitStr, Result, Type};

/// The attribute of a struct that is a whole message.
pub(crate) struct MessageAttributes {
    pub(crate) min_version: i16,
    pub(crate) max_version: i16,
    /// `i16::MAX` for a message that is never flexible.
    pub(crate) flexible: i16,
    /// The `ApiKey` and the type of the response.
    pub(crate) request: Option<(Ident, Type)>,
}

impl MessageAttributes {
    /// `None` for a struct without the attribute, which is a part of messages.
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Option<Self>> {
        let Some(attribute) = attributes.iter().find(|attribute| attribute.path().is_ident("kafka")) else {
            return Ok(None);
        };
        let (mut versions, mut flexible, mut key, mut response) = (None, i16::MAX, None, None);
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("versions") {
                versions = Some(parse_versions(&meta.value()?.parse()?)?);
            } else if meta.path.is_ident("flexible") {
                flexible = integer(&meta)?;
            } else if meta.path.is_ident("request") {
                key = Some(meta.value()?.parse::<LitStr>()?.parse::<Ident>()?);
            } else if meta.path.is_ident("response") {
                response = Some(meta.value()?.parse::<Type>()?);
            } else {
                return Err(meta.error("a message takes `versions`, `flexible`, `request` and `response`"));
            }
            Ok(())
        })?;
        let request = match (key, response) {
            (Some(key), Some(response)) => Some((key, response)),
            (None, None) => None,
            _ => return Err(Error::new_spanned(attribute, "`request` and `response` go together")),
        };
        let (min_version, max_version) =
            versions.ok_or_else(|| Error::new_spanned(attribute, "a message needs `versions = \"FIRST-LAST\"`"))?;
        Ok(Some(Self { min_version, max_version, flexible, request }))
    }
}

fn parse_versions(literal: &LitStr) -> Result<(i16, i16)> {
    let text = literal.value();
    text.split_once('-')
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
        .filter(|(first, last)| first <= last)
        .ok_or_else(|| Error::new_spanned(literal, "versions are written \"FIRST-LAST\", as in \"0-13\""))
}

/// The attribute of a field; without it, the field is in all versions and has its type's default.
pub(crate) struct FieldAttributes {
    pub(crate) since: i16,
    pub(crate) until: i16,
    /// The first and last version in which it may be null.
    pub(crate) nullable: Option<(i16, i16)>,
    /// The tag, and the first version in which the field is tagged.
    pub(crate) tag: Option<(u32, i16)>,
    pub(crate) default: Option<Expr>,
    pub(crate) ignorable: bool,
}

impl FieldAttributes {
    pub(crate) fn parse(field: &Field) -> Result<Self> {
        let mut this = Self { since: 0, until: i16::MAX, nullable: None, tag: None, default: None, ignorable: false };
        let Some(attribute) = field.attrs.iter().find(|attribute| attribute.path().is_ident("kafka")) else {
            return Ok(this);
        };
        let (mut nullable, mut nullable_until, mut tag, mut tagged) = (None, None, None, None);
        attribute.parse_nested_meta(|meta| {
            match meta.path.require_ident()?.to_string().as_str() {
                "since" => this.since = integer(&meta)?,
                "until" => this.until = integer(&meta)?,
                "nullable" => nullable = Some(integer(&meta)?),
                "nullable_until" => nullable_until = Some(integer(&meta)?),
                "tag" => tag = Some(meta.value()?.parse::<LitInt>()?.base10_parse()?),
                "tagged" => tagged = Some(integer(&meta)?),
                "default" => this.default = Some(meta.value()?.parse()?),
                "ignorable" => this.ignorable = true,
                _ => {
                    return Err(meta.error(
                        "a field takes `since`, `until`, `nullable`, `nullable_until`, `tag`, `tagged`, `default` and \
                         `ignorable`",
                    ));
                }
            }
            Ok(())
        })?;
        this.nullable = match (nullable, nullable_until) {
            (Some(first), last) => Some((first, last.unwrap_or(i16::MAX))),
            (None, None) => None,
            (None, Some(_)) => return Err(Error::new_spanned(attribute, "`nullable_until` needs `nullable`")),
        };
        this.tag = match (tag, tagged) {
            (Some(tag), from) => Some((tag, from.unwrap_or(this.since))),
            (None, None) => None,
            (None, Some(_)) => return Err(Error::new_spanned(attribute, "`tagged` needs `tag`")),
        };
        if this.until < this.since {
            return Err(Error::new_spanned(attribute, "`until` is before `since`"));
        }
        Ok(this)
    }
}

fn integer(meta: &ParseNestedMeta) -> Result<i16> {
    meta.value()?.parse::<LitInt>()?.base10_parse()
}
