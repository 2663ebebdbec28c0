//! Checks the claims in `KIPS.md`, `GUARANTEES.md`, `SECURITY.md` and `docs/reliability.md` against the code: the tests
//! they name exist, and each guarantee that the code cites is described.

use std::collections::{BTreeMap, BTreeSet};

/// What the documents refer to in the source.
#[derive(Default)]
pub(crate) struct Index {
    /// The names of all functions, including tests.
    functions: BTreeSet<String>,
    /// Where each guarantee is first cited: `R8`, and a path with a line.
    citations: BTreeMap<String, String>,
}

impl Index {
    /// Adds what one file defines and cites.
    pub(crate) fn file(&mut self, path: &str, text: &str) {
        let keyword = match path.rsplit('.').next() {
            Some("rs") => "fn ",
            Some("py") => "def ",
            _ => return,
        };
        self.functions.extend(function_names(text, keyword));
        for (index, line) in text.lines().enumerate() {
            for number in line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| is_guarantee(word)) {
                self.citations.entry(number.to_owned()).or_insert_with(|| format!("{path}:{}", index + 1));
            }
        }
    }

    /// The errors in `SECURITY.md`: each row of its table of promises names tests.
    pub(crate) fn security_faults(&self, security: &str) -> Vec<String> {
        let rows: Vec<_> = table(security, PROMISES).collect();
        let mut faults = self.missing("SECURITY.md", rows.iter().flat_map(|row| last_columns(row)));
        if rows.is_empty() {
            faults.push(format!("SECURITY.md: there is no table that begins with {PROMISES}"));
        }
        let unshown = rows.iter().filter(|row| last_columns(row).next().is_none());
        faults.extend(unshown.map(|row| format!("SECURITY.md: name a test in the last column of: {row}")));
        faults
    }

    /// The errors in the tables of `docs/reliability.md` that say which tests try bad input.
    pub(crate) fn reliability_faults(&self, reliability: &str) -> Vec<String> {
        let document = "docs/reliability.md";
        let mut faults = Vec::new();
        for head in BAD_INPUT {
            let columns = head.matches('|').count() - 1;
            let rows: Vec<&str> = table(reliability, head).collect();
            if rows.is_empty() {
                faults.push(format!("{document}: there is no table that begins with {head}"));
            }
            faults.extend(self.missing(document, rows.iter().flat_map(|row| proofs(row, columns)).flat_map(quoted)));
            let unshown = rows.iter().filter(|row| proofs(row, columns).any(|cell| cell.trim().is_empty()));
            faults.extend(unshown.map(|row| format!("{document}: name a test, or say why there is none, in: {row}")));
        }
        faults
    }

    /// The errors in the two other documents.
    pub(crate) fn faults(&self, kips: &str, guarantees: &str) -> Vec<String> {
        let mut faults = self.missing("KIPS.md", last_columns(kips));
        let sections = sections(guarantees);
        for (number, proofs) in &sections {
            let names = || proofs.iter().flat_map(|proof| quoted(proof));
            faults.extend(self.missing("GUARANTEES.md", names()));
            let is_promised = !proofs.iter().any(|proof| proof.starts_with(NOT_YET));
            if is_promised && names().next().is_none() {
                faults.push(format!("GUARANTEES.md: {number}: name a test (`{SHOWN}`), or say `{NOT_YET}` and why"));
            }
        }
        let unknown = self.citations.iter().filter(|(number, _)| !sections.contains_key(number.as_str()));
        faults.extend(unknown.map(|(number, place)| format!("{place}: GUARANTEES.md has no {number}")));
        faults
    }

    fn missing<'a>(&self, document: &str, tests: impl Iterator<Item = &'a str>) -> Vec<String> {
        let missing = tests.filter(|test| !self.functions.contains(*test));
        missing.map(|test| format!("{document}: no test is called {test}: name one that shows it")).collect()
    }
}

/// The beginning of the table of what `SECURITY.md` promises.
const PROMISES: &str = "| promise |";

/// The first rows of the tables of bad input in `docs/reliability.md`. All columns but the first name tests.
const BAD_INPUT: [&str; 2] = ["| bad input | Rust | Python |", "| broken answer | tests |"];

/// The beginning of the paragraph that names a guarantee's tests.
const SHOWN: &str = "Shown by:";

/// The beginning of that paragraph if there are none yet.
const NOT_YET: &str = "Not promised yet:";

/// Whether a word is the number of a guarantee: an `R` and one or two digits.
fn is_guarantee(word: &str) -> bool {
    word.strip_prefix('R')
        .is_some_and(|number| (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The names of the functions in a file whose lines begin with `keyword`, as those of tests do.
fn function_names(text: &str, keyword: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter_map(move |line| line.trim_start().strip_prefix(keyword)?.split_once('('))
        .map(|(name, _)| name.to_owned())
}

/// The rows of the table whose first row begins with `head`.
fn table<'a>(document: &'a str, head: &'a str) -> impl Iterator<Item = &'a str> {
    let from_head = document.lines().skip_while(move |line| !line.starts_with(head));
    from_head.skip(2).take_while(|line| line.starts_with('|'))
}

/// What a row of a table with so many columns has in all of them but the first.
fn proofs(row: &str, columns: usize) -> impl Iterator<Item = &str> {
    row.split('|').skip(2).take(columns - 1)
}

/// The tests in the last column of a table, without their modules.
fn last_columns(table: &str) -> impl Iterator<Item = &str> {
    let rows = table.lines().filter_map(|line| line.strip_prefix('|')?.trim_end().strip_suffix('|'));
    rows.filter_map(|row| row.rsplit('|').next()).flat_map(quoted)
}

/// For each guarantee, the paragraphs that name its tests or say that there are none.
fn sections(guarantees: &str) -> BTreeMap<&str, Vec<&str>> {
    let sections = guarantees.split("\n## ").skip(1).filter_map(|section| section.split_once(':'));
    sections
        .map(|(number, text)| {
            let paragraphs = text.split("\n\n").map(str::trim_start);
            (number, paragraphs.filter(|text| text.starts_with(SHOWN) || text.starts_with(NOT_YET)).collect())
        })
        .collect()
}

/// The names between backticks, without their modules.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter_map(|name| name.rsplit("::").next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(files: &[(&str, &str)], kips: &str, guarantees: &str) -> Vec<String> {
        let mut index = Index::default();
        for (path, text) in files {
            index.file(path, text);
        }
        index.faults(kips, guarantees)
    }

    #[test]
    fn the_last_column_of_a_row_names_tests_that_exist() {
        let kips = "| KIP | shown by |\n|---|---|\n| 1 `no` | `a::tests::one`, `two` |\n| 2 | |\n";
        let files = [("a.rs", "    fn one() {\nlet two = 1;"), ("b.py", "def two():")];
        assert_eq!(faults(&files, kips, ""), [""; 0]);
        assert_eq!(faults(&files[..1], kips, ""), ["KIPS.md: no test is called two: name one that shows it"]);
    }

    #[test]
    fn a_guarantee_names_tests_that_exist_or_says_that_it_is_not_kept() {
        let shown = "# G\n\n## R1: a\n\nText with `code`.\n\nShown by: `one`,\n`two`\n";
        assert_eq!(faults(&[("a.rs", "fn one() {}\nfn two() {}")], "", shown), [""; 0]);
        assert_eq!(faults(&[("a.rs", "fn one() {}")], "", shown).len(), 1);
        assert_eq!(faults(&[], "", "# G\n\n## R1: a\n\nText.\n").len(), 1);
        assert_eq!(faults(&[], "", "# G\n\n## R1: a\n\nText.\n\nNot promised yet: no TLS.\n"), [""; 0]);
    }

    #[test]
    fn every_row_of_bad_input_names_tests_that_exist_or_says_why_there_are_none() {
        let mut index = Index::default();
        index.file("a.rs", "fn one() {}");
        index.file("a.py", "def test_two(x):");
        let answers = "| broken answer | tests |\n|---|---|\n| `x` | `one` |";
        let faults = |rows: &str| {
            let inputs = format!("| bad input | Rust | Python |\n|---|---|---|\n{rows}");
            index.reliability_faults(&format!("{inputs}\n\n| `y` |\n\n{answers}"))
        };
        assert!(faults("| `a` | `one`, `a::one` | `test_two` |\n| b | its type | `test_two` |").is_empty());
        let missing = "docs/reliability.md: no test is called two: name one that shows it";
        assert_eq!(faults("| a | `two` | `test_two` |"), [missing]);
        let empty = "docs/reliability.md: name a test, or say why there is none, in: | a | `one` | |";
        assert_eq!(faults("| a | `one` | |"), [empty]);
        assert_eq!(index.reliability_faults(answers).len(), 1);
    }

    #[test]
    fn a_promise_of_security_names_tests_that_exist() {
        let mut index = Index::default();
        index.file("a.rs", "fn one() {}");
        let table = |rows: &str| {
            index.security_faults(&format!("| `x` |\n\n| promise | tests |\n|---|---|\n{rows}\n\n| `y` |"))
        };
        assert_eq!(table("| `a` | `one` |"), [""; 0]);
        assert_eq!(table("| a | `one`, `two` |"), ["SECURITY.md: no test is called two: name one that shows it"]);
        assert_eq!(table("| `a` | |"), ["SECURITY.md: name a test in the last column of: | `a` | |"]);
        assert_eq!(index.security_faults("nothing").len(), 1);
    }

    #[test]
    fn a_guarantee_that_is_cited_is_described() {
        let files = [("a.rs", "fn f<R>() {}\n// is kept (guarantee R1, R18): RR1 R100 R1_a"), ("c.md", "R7")];
        let found = faults(&files, "", "\n## R1: a\n\nNot promised yet: no.\n");
        assert_eq!(found, ["a.rs:2: GUARANTEES.md has no R18"]);
    }
}
