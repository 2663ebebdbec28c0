//! Which format each record of a batch needs, for leaders that store an older one.

use std::ops::Range;

use super::format::Format;

/// The oldest format that carries each record of a batch. It takes no memory if all of them fit into every format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Where records begin that need another format than those before them. In front of the first, `V0` is enough.
    changes: Vec<(u32, Format)>,
    most: Format,
}

impl Default for Needs {
    fn default() -> Self {
        Self { changes: Vec::new(), most: Format::V0 }
    }
}

impl Needs {
    /// Notes the oldest format that carries the record with this index, which is above all that were noted.
    #[inline]
    pub(super) fn note(&mut self, index: u32, format: Format) {
        if self.changes.last().map_or(Format::V0, |(_, last)| *last) != format {
            self.changes.push((index, format));
            self.most = self.most.max(format);
        }
    }

    /// The oldest format that carries all records.
    pub fn most(&self) -> Format {
        self.most
    }

    /// The records of a batch of `count`, in runs that need the same format.
    pub fn runs(&self, count: u32) -> impl Iterator<Item = (Range<u32>, Format)> {
        let starts = std::iter::once((0, Format::V0)).chain(self.changes.iter().copied());
        let ends = self.changes.iter().map(|(start, _)| *start).chain(std::iter::once(count));
        starts.zip(ends).map(|((start, format), end)| (start..end, format)).filter(|(run, _)| !run.is_empty())
    }

    /// What the records in `range` need when they are a batch of their own.
    #[must_use]
    pub fn of(&self, range: &Range<u32>) -> Self {
        let mut part = Self::default();
        let first = self.changes.partition_point(|(start, _)| *start <= range.start).saturating_sub(1);
        for (start, format) in self.changes.iter().skip(first).take_while(|(start, _)| *start < range.end) {
            part.note(start.saturating_sub(range.start), *format);
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_batch_needs_what_its_records_need() {
        let all = [Format::V0, Format::V1, Format::V1, Format::V0, Format::V2, Format::V0];
        let noted = |formats: &[Format]| {
            let mut needs = Needs::default();
            formats.iter().zip(0..).for_each(|(format, index)| needs.note(index, *format));
            needs
        };
        let whole = noted(&all);
        for start in 0..all.len() {
            for end in start + 1..=all.len() {
                let part = whole.of(&(start as u32..end as u32));
                assert_eq!(part, noted(&all[start..end]), "{start}..{end}");
                let runs = part.runs((end - start) as u32);
                let again: Vec<_> = runs.flat_map(|(run, format)| run.map(move |_| format)).collect();
                assert_eq!(again, all[start..end]);
            }
        }
    }
}
