//! The names and types of a consumer's columns.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use super::{ArrowSchema, Owned, Structure};

/// `ARROW_FLAG_NULLABLE`.
const NULLABLE: i64 = 2;

/// How the bytes of keys or values are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Binary {
    /// Views into the memory that the records were fetched into, or into copies of short ones.
    #[default]
    View,
    /// One after the other, with offsets of 32 bits.
    Small,
    /// The same, with offsets of 64 bits.
    Large,
}

impl Binary {
    const ALL: [Self; 3] = [Self::View, Self::Small, Self::Large];

    fn format(self) -> &'static CStr {
        match self {
            Self::View => c"vz",
            Self::Small => c"z",
            Self::Large => c"Z",
        }
    }
}

/// How the columns are laid out that can be laid out in several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout {
    /// Whether the name of the topic is repeated in each row, and not a dictionary of one name.
    pub(super) repeats_topic: bool,
    pub(super) key: Binary,
    pub(super) value: Binary,
}

/// A column, or a part of one.
struct Field {
    name: &'static CStr,
    format: &'static CStr,
    is_nullable: bool,
    children: Vec<Field>,
    dictionary: Option<Box<Field>>,
}

impl Field {
    fn new(name: &'static CStr, format: &'static CStr) -> Self {
        Self { name, format, is_nullable: false, children: Vec::new(), dictionary: None }
    }

    fn nullable(self) -> Self {
        Self { is_nullable: true, ..self }
    }

    fn of(self, children: Vec<Field>) -> Self {
        Self { children, ..self }
    }
}

impl Layout {
    /// The layout that `requested` asks for, as far as there is one: where it asks for something else, a column is laid
    /// out as if nothing were asked for, and so are all if the columns are not these.
    pub(super) fn requested(requested: &ArrowSchema) -> Self {
        let mut layout = Self::default();
        let fields = layout.fields();
        let columns = requested.children();
        let is_ours =
            columns.len() == fields.len() && columns.iter().zip(&fields).all(|(column, field)| column.is(field.name));
        if !is_ours {
            return layout;
        }
        let asked_for = |name: &CStr| columns.iter().find(|column| column.is(name));
        let binary = |name: &CStr| {
            let format = asked_for(name).map(|column| column.format());
            let wanted = Binary::ALL.into_iter().find(|binary| format == Some(binary.format()));
            wanted.unwrap_or_default()
        };
        layout.key = binary(c"key");
        layout.value = binary(c"value");
        layout.repeats_topic =
            asked_for(c"topic").is_some_and(|topic| topic.format() == c"u" && topic.dictionary.is_null());
        layout
    }

    fn fields(self) -> Vec<Field> {
        let topic = if self.repeats_topic {
            Field::new(c"topic", c"u")
        } else {
            Field { dictionary: Some(Box::new(Field::new(c"", c"u"))), ..Field::new(c"topic", c"i") }
        };
        let header = vec![Field::new(c"key", c"u"), Field::new(c"value", c"z").nullable()];
        let header = Field::new(c"item", c"+s").of(header);
        vec![
            topic,
            Field::new(c"partition", c"i"),
            Field::new(c"offset", c"l"),
            Field::new(c"timestamp", c"tsm:UTC").nullable(),
            Field::new(c"key", self.key.format()).nullable(),
            Field::new(c"value", self.value.format()).nullable(),
            Field::new(c"headers", c"+l").of(vec![header]),
        ]
    }

    /// The schema of the columns.
    pub(super) fn schema(self) -> ArrowSchema {
        exported(Field::new(c"", c"+s").of(self.fields()))
    }
}

/// What a schema of ours points to.
struct Kept {
    children: Owned<ArrowSchema>,
    dictionary: Owned<ArrowSchema>,
}

fn exported(field: Field) -> ArrowSchema {
    let mut kept = Box::new(Kept {
        children: Owned::new(field.children.into_iter().map(exported)),
        dictionary: Owned::new(field.dictionary.map(|dictionary| exported(*dictionary))),
    });
    ArrowSchema {
        format: field.format.as_ptr(),
        name: field.name.as_ptr(),
        metadata: ptr::null(),
        flags: if field.is_nullable { NULLABLE } else { 0 },
        n_children: kept.children.0.len() as i64,
        children: kept.children.list(),
        dictionary: kept.dictionary.first(),
        release: Some(release),
        private_data: Box::into_raw(kept).cast::<c_void>(),
    }
}

/// The `release` of our schemas.
unsafe extern "C" fn release(schema: *mut ArrowSchema) {
    // SAFETY: the caller passes a schema with the content that `exported` put into it, or null.
    let Some(schema) = (unsafe { schema.as_mut() }) else { return };
    // Without effect on a schema that was released before.
    if schema.release.take().is_some() {
        // SAFETY: `exported` made it from a box, and only the first release gets here.
        drop(unsafe { Box::from_raw(schema.private_data.cast::<Kept>()) });
    }
}

impl ArrowSchema {
    /// Its format; empty if it has none.
    pub(super) fn format(&self) -> &CStr {
        // SAFETY: the text of a schema lives as long as the schema.
        unsafe { text(self.format) }
    }

    /// Its name; empty if it has none.
    pub(super) fn name(&self) -> &CStr {
        // SAFETY: the text of a schema lives as long as the schema.
        unsafe { text(self.name) }
    }

    fn is(&self, name: &CStr) -> bool {
        self.name() == name
    }

    pub(super) fn has_dictionary(&self) -> bool {
        !self.dictionary.is_null()
    }

    /// Its children; none if it is empty.
    pub(super) fn children(&self) -> Vec<&ArrowSchema> {
        if self.is_empty() {
            return Vec::new();
        }
        // SAFETY: a schema that is not empty points to so many children, which live as long as it does.
        unsafe { children(self.children, self.n_children) }
    }
}

/// The structures that a list of pointers points to; none if the list cannot be right.
///
/// # Safety
///
/// `list` is null, or `count` pointers begin there, each of which is null or points to a structure that lives for `'a`.
pub(super) unsafe fn children<'a, T>(list: *mut *mut T, count: i64) -> Vec<&'a T> {
    let Ok(count) = usize::try_from(count) else { return Vec::new() };
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: as the caller promises.
    let found: Option<Vec<&T>> = (0..count).map(|index| unsafe { (*list.add(index)).as_ref() }).collect();
    found.unwrap_or_default()
}

/// The text at a pointer; empty if there is none.
///
/// # Safety
///
/// The pointer is null, or text begins there that ends with a zero and lives for `'a`.
unsafe fn text<'a>(at: *const c_char) -> &'a CStr {
    // SAFETY: as the caller promises.
    if at.is_null() { c"" } else { unsafe { CStr::from_ptr(at) } }
}
