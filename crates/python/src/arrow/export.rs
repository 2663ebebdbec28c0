//! Fills Arrow's structures with columns.
//!
//! Each structure owns a share of what its buffers point to, so whoever reads them may release them in any order.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use super::columns::{Columns, Content, Strings, Validity, Views};
use super::schema::{Binary, Layout};
use super::{ArrowArray, Owned};

/// Keeps what buffers point to.
type Owner = Arc<dyn Send + Sync>;

/// A column, or a part of one.
struct Column {
    rows: usize,
    nulls: usize,
    buffers: Vec<*const c_void>,
    owner: Owner,
    children: Vec<Column>,
    dictionary: Option<Box<Column>>,
}

impl Column {
    fn new(rows: usize, validity: Option<&Validity>, owner: &Owner) -> Self {
        let bits = validity.and_then(Validity::bits).map_or(ptr::null(), |bits| bits.as_ptr().cast());
        let nulls = validity.map_or(0, |validity| validity.nulls);
        Self { rows, nulls, buffers: vec![bits], owner: Arc::clone(owner), children: Vec::new(), dictionary: None }
    }

    fn buffer<T>(mut self, buffer: &[T]) -> Self {
        self.buffers.push(buffer.as_ptr().cast());
        self
    }

    fn of(self, children: Vec<Column>) -> Self {
        Self { children, ..self }
    }

    /// Also keeps `buffers`, to which its pointers point.
    fn owning(self, buffers: impl Send + Sync + 'static) -> Self {
        Self { owner: Arc::new((buffers, Arc::clone(&self.owner))), ..self }
    }
}

/// The columns in this layout.
///
/// # Errors
///
/// A sentence, if a column does not fit into its layout.
pub(super) fn array(columns: &Columns, layout: Layout) -> Result<ArrowArray, String> {
    let (content, rows): (&Content, usize) = (columns, columns.rows());
    let owner: Owner = Arc::clone(columns) as Owner;
    let plain = |validity| Column::new(rows, validity, &owner);
    let header = Column::new(content.headers.count(), None, &owner).of(vec![
        strings(content.headers.count(), &content.headers.keys, &owner),
        strings(content.headers.count(), &content.headers.values, &owner),
    ]);
    let all = vec![
        topic(columns, layout, &owner)?,
        plain(None).buffer(&content.partition),
        plain(None).buffer(&content.offset),
        plain(Some(&content.has_timestamp)).buffer(&content.timestamp),
        binary("key", columns, layout.key, |content| &content.key)?,
        binary("value", columns, layout.value, |content| &content.value)?,
        plain(None).buffer(&content.headers.offsets).of(vec![header]),
    ];
    Ok(exported(plain(None).of(all)))
}

fn strings(rows: usize, strings: &Strings, owner: &Owner) -> Column {
    Column::new(rows, Some(&strings.validity), owner).buffer(&strings.offsets).buffer(&strings.data)
}

fn topic(columns: &Columns, layout: Layout, owner: &Owner) -> Result<Column, String> {
    let (rows, name) = (columns.rows(), columns.topic.as_bytes());
    let repeated = |count: usize| {
        let names = name.repeat(count);
        let offsets = offsets::<i32>("topic", std::iter::repeat_n(name.len(), count))?;
        Ok::<_, String>(Column::new(count, None, owner).buffer(&offsets).buffer(&names).owning((offsets, names)))
    };
    if layout.repeats_topic {
        return repeated(rows);
    }
    let dictionary = Some(Box::new(repeated(1)?));
    Ok(Column { dictionary, ..Column::new(rows, None, owner).buffer(&columns.topic_index) })
}

fn binary(name: &str, columns: &Columns, layout: Binary, of: fn(&Content) -> &Views) -> Result<Column, String> {
    match layout {
        Binary::View => {
            let (content, owner): (&Content, Owner) = (columns, Arc::clone(columns) as Owner);
            let column = Column::new(columns.rows(), Some(&of(content).validity), &owner).buffer(&of(content).views);
            let column = content.buffers.iter().fold(column, |column, buffer| column.buffer(buffer));
            Ok(column.buffer(&content.buffer_lengths))
        }
        Binary::Small => copied::<i32>(name, columns, of),
        Binary::Large => copied::<i64>(name, columns, of),
    }
}

/// Where each of several texts or bytes begins, and where the last one ends.
fn offsets<T: TryFrom<usize>>(name: &str, lengths: impl Iterator<Item = usize>) -> Result<Vec<T>, String> {
    let ends = lengths.scan(0_usize, |end, length| {
        *end += length;
        Some(*end)
    });
    let all = std::iter::once(0).chain(ends).map(T::try_from).collect::<Result<Vec<T>, _>>();
    all.map_err(|_| {
        format!(
            "column {name} has more than 2 GiB, which 32-bit offsets cannot tell apart; ask for large_binary or \
             binary_view, or for fewer records"
        )
    })
}

/// A column of keys or values that is a copy.
fn copied<T>(name: &str, columns: &Columns, of: fn(&Content) -> &Views) -> Result<Column, String>
where
    T: TryFrom<usize> + Send + Sync + 'static,
{
    let (views, owner) = (of(columns), Arc::clone(columns) as Owner);
    let offsets = offsets::<T>(name, views.views.iter().map(|view| view.len()))?;
    let mut data = Vec::with_capacity(views.views.iter().map(|view| view.len()).sum());
    views.views.iter().for_each(|view| data.extend_from_slice(view.bytes(&columns.buffers)));
    let column = Column::new(columns.rows(), Some(&views.validity), &owner);
    Ok(column.buffer(&offsets).buffer(&data).owning((offsets, data)))
}

/// What an array of ours points to.
struct Kept {
    buffers: Vec<*const c_void>,
    children: Owned<ArrowArray>,
    dictionary: Owned<ArrowArray>,
    _owner: Owner,
}

fn exported(column: Column) -> ArrowArray {
    let mut kept = Box::new(Kept {
        buffers: column.buffers,
        children: Owned::new(column.children.into_iter().map(exported)),
        dictionary: Owned::new(column.dictionary.map(|dictionary| exported(*dictionary))),
        _owner: column.owner,
    });
    ArrowArray {
        length: column.rows as i64,
        null_count: column.nulls as i64,
        offset: 0,
        n_buffers: kept.buffers.len() as i64,
        n_children: kept.children.0.len() as i64,
        buffers: kept.buffers.as_mut_ptr(),
        children: kept.children.list(),
        dictionary: kept.dictionary.first(),
        release: Some(release),
        private_data: Box::into_raw(kept).cast(),
    }
}

/// The `release` of our arrays.
unsafe extern "C" fn release(array: *mut ArrowArray) {
    // SAFETY: the caller passes an array with the content that `exported` put into it, or null.
    let Some(array) = (unsafe { array.as_mut() }) else { return };
    // Without effect on an array that was released before.
    if array.release.take().is_some() {
        // SAFETY: `exported` made it from a box, and only the first release gets here.
        drop(unsafe { Box::from_raw(array.private_data.cast::<Kept>()) });
    }
}
