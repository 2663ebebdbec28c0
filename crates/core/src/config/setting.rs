//! How a setting is declared: as one row, from which everything else is generated.
//!
//! `settings!` turns rows into the struct with its documented fields, the defaults, a builder method per field, the
//! range checks, reading by name, and the table of [`Setting`]s from which `docs/reference/configuration.md` is
//! generated. A rule about two settings is written by hand below the rows, in `check_conflicts`.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::names::nearest_choice;
use super::value::{Value, grouped};
use crate::error::{Error, ErrorKind, Result, printable};

/// The largest Java `int`, which bounds many of Kafka's settings.
pub(super) const INT: u64 = i32::MAX as u64;
/// The largest Java `long`. A range that ends here counts as having no upper bound.
pub(super) const LONG: u64 = i64::MAX as u64;

/// The description of a setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name in properties and errors: Kafka's name, unless [`Setting::is_kafkas`] is false.
    pub name: &'static str,
    /// Whether Kafka's own clients have this setting.
    pub is_kafkas: bool,
    /// The name of its field and builder method in Rust.
    pub field: &'static str,
    /// PyKafka's keyword argument for it, if there is one; of a class other than the client's or the producer's, with
    /// that class: `SslConfig(cafile)`.
    pub pykafka: Option<&'static str>,
    /// That argument's default, if it is another one.
    pub pykafka_default: Option<&'static str>,
    /// The form of its value in properties, in words.
    pub kind: &'static str,
    /// The default, in the form of properties.
    pub default: fn() -> String,
    /// The allowed range, if it is a number.
    pub range: Option<(u64, u64)>,
    /// The lines of its documentation.
    pub doc: &'static [&'static str],
}

impl Setting {
    /// The allowed values in words: the range, or the form of the value.
    pub fn allowed(&self) -> String {
        match self.range {
            Some((least, LONG)) => format!("{} or more", grouped(least)),
            Some((least, most)) => format!("{} to {}", grouped(least), grouped(most)),
            None => self.kind.to_owned(),
        }
    }

    /// Refuses a value that is out of range. A value without a number (such as "no limit") has no range.
    pub(super) fn check(&self, value: &impl Value) -> Result<()> {
        let Some((least, most)) = self.range else { return Ok(()) };
        match value.number() {
            Some(number) if number < u128::from(least) || number > u128::from(most) => {
                Err(refuse(self.name, value.show(), self.allowed()))
            }
            _ => Ok(()),
        }
    }

    /// Parses a value, and checks its range.
    pub(super) fn read<V: Value>(&self, text: &str) -> Result<V> {
        let refused = |why: Option<Error>| {
            let shown = if V::IS_SECRET { "***".to_owned() } else { printable(text) };
            let meant = match nearest_choice(text, V::CHOICES) {
                Some(choice) => format!("; did you mean {choice}?"),
                None => String::new(),
            };
            why.unwrap_or_else(|| refuse(self.name, shown + &meant, self.allowed()))
        };
        let value = V::parse(text.trim()).map_err(refused)?;
        self.check(&value)?;
        Ok(value)
    }
}

/// The error for a refused value: `{setting} must be {allowed}, not {value}`.
pub(super) fn refuse(setting: &str, value: impl Display, allowed: impl Display) -> Error {
    Error::new(ErrorKind::Config, format!("{setting} must be {allowed}, not {value}"))
}

/// The bounds of a range; the table holds numbers, because a range is not `Copy`.
pub(super) const fn bounds(range: &RangeInclusive<u64>) -> (u64, u64) {
    (*range.start(), *range.end())
}

/// Declares a struct of settings; see the module's documentation.
///
/// ```text
/// /// What the setting does.
/// #[setting(kafka = "linger.ms", pykafka = "linger_ms", range = 0..=LONG)]
/// linger: Duration = 5;
/// ```
///
/// `ours =` instead of `kafka =` marks a setting that Kafka's own clients do not have. `pykafka`, `pykafka_default` (if
/// PyKafka has another default) and `range` are optional. The default is a [`Value::Literal`]; that of a duration is in
/// milliseconds. A field after `and` is private and has no row.
macro_rules! settings {
    (@is_kafkas kafka) => { true };
    (@is_kafkas ours) => { false };
    (@origin kafka) => { "Kafka's" };
    (@origin ours) => { "Not a setting of Kafka's:" };
    (@option) => { None };
    (@option $value:expr) => { Some($value) };
    (@bounds) => { None };
    (@bounds $range:expr) => { Some($crate::config::setting::bounds(&($range))) };
    (
        $(#[doc = $about:literal])*
        $config:ident {$(
            $(#[doc = $doc:literal])+
            #[setting($origin:ident = $name:literal $(, pykafka = $keyword:literal $(, pykafka_default = $other:literal)?)? $(, range = $range:expr)?)]
            $field:ident: $type:ty = $default:expr;
        )+}
        $(and {$(#[doc = $extra_doc:literal])+ $extra:ident: $extra_type:ty;})?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct $config {$(
            $(#[doc = $doc])+
            #[doc = ""]
            #[doc = concat!(
                settings!(@origin $origin), " `", $name, "`; default: `", stringify!($default), "`",
                $("; allowed: `", stringify!($range), "`",)? "."
            )]
            pub $field: $type,
        )+
        $(
            $(#[doc = $extra_doc])+
            $extra: $extra_type,
        )?}

        impl Default for $config {
            fn default() -> Self {
                use $crate::config::value::Value;
                Self {$(
                    $field: <$type as Value>::from_literal($default),
                )+ $($extra: <$extra_type>::default(),)?}
            }
        }

        /// Builder methods: `Config::default().this(..).that(..)`. They check nothing; [`validate`](Self::validate)
        /// does.
        impl $config {$(
            #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
            #[must_use]
            pub fn $field(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            }
        )+}

        impl $config {
            /// The descriptions of its settings, in the order of the fields.
            pub const SETTINGS: &'static [$crate::config::Setting] = &[$(
                $crate::config::Setting {
                    name: $name,
                    is_kafkas: settings!(@is_kafkas $origin),
                    field: stringify!($field),
                    pykafka: settings!(@option $($keyword)?),
                    pykafka_default: settings!(@option $($($other)?)?),
                    kind: <$type as $crate::config::value::Value>::KIND,
                    default: || $crate::config::value::Value::show(&$config::default().$field),
                    range: settings!(@bounds $($range)?),
                    doc: &[$($doc),+],
                },
            )+];

            /// Reads settings by name, as from a properties file; the others keep their defaults.
            ///
            /// # Errors
            ///
            /// `Config` if a name is unknown (the error suggests the nearest one), if a value cannot be parsed or is
            /// out of range, or if [`validate`](Self::validate) fails.
            pub fn from_properties<N: AsRef<str>, V: AsRef<str>>(
                properties: impl IntoIterator<Item = (N, V)>,
            ) -> $crate::error::Result<Self> {
                let mut config = Self::default();
                for (name, value) in properties {
                    if !config.set(name.as_ref(), value.as_ref())? {
                        return Err($crate::config::names::unknown(name.as_ref(), value.as_ref(), &[Self::SETTINGS]));
                    }
                }
                config.validate()?;
                Ok(config)
            }

            /// The names of the settings that are not at their defaults.
            pub fn changed(&self) -> impl Iterator<Item = &'static str> + use<> {
                let default = Self::default();
                let changed = [$((self.$field != default.$field).then_some($name)),+];
                changed.into_iter().flatten()
            }

            /// Sets one setting by its name. Returns false if there is no such setting.
            pub(super) fn set(&mut self, name: &str, value: &str) -> $crate::error::Result<bool> {
                let Some(setting) = Self::SETTINGS.iter().find(|setting| setting.name == name) else {
                    return Ok(false);
                };
                match name {
                    $($name => self.$field = setting.read(value)?,)+
                    _ => return Ok(false),
                }
                Ok(true)
            }

            /// Checks all settings.
            ///
            /// # Errors
            ///
            /// `Config`, with the setting and its allowed values, if a value is out of range or two settings contradict
            /// each other.
            pub fn validate(&self) -> $crate::error::Result<()> {
                for setting in Self::SETTINGS {
                    match setting.field {
                        $(stringify!($field) => setting.check(&self.$field)?,)+
                        _ => {}
                    }
                }
                self.check_conflicts()
            }
        }
    };
}

pub(super) use settings;
