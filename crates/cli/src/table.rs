//! Tables in plain text, with aligned columns.

use kavka::printable;

/// A table with a head, and one line per row. Cells are escaped: other clients choose their names.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows = rows.into_iter().map(|row| row.map(|cell| printable(&cell)));
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            format!("{cell:<width$}")
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A number, or a dash for `None`.
pub(crate) fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_another_client_chose_cannot_forge_a_row() {
        let rows = [["a\nb\u{1b}[2J".to_owned(), "1".to_owned()], ["c".to_owned(), "2".to_owned()]];
        assert_eq!(table(["NAME", "LAG"], rows), "NAME           LAG\na\\nb\\u{1b}[2J  1\nc              2\n");
    }
}
