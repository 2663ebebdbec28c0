//! What tidy must know about a Rust file, without a compiler: its code, paths and functions.
//!
//! It reads text, and relies on rustfmt's layout. Its rules are simple, but must not miss anything. Macros are treated
//! like any other code.

/// One Rust file.
pub(crate) struct Source {
    /// The text without unit tests, with comments and the contents of literals blanked out.
    pub(crate) code: String,
}

/// A function: its name, its first line, and its number of lines.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

impl Source {
    /// Reads the text of a file.
    pub(crate) fn new(text: &str) -> Self {
        let blanked = blank(text);
        let tests = blanked.find("\n#[cfg(test)]\nmod ").map_or(blanked.len(), |at| at + 1);
        Self { code: blanked.get(..tests).unwrap_or_default().to_owned() }
    }

    /// The number of lines without unit tests.
    pub(crate) fn lines(&self) -> usize {
        self.code.lines().count()
    }

    /// Each path in the code with its line; nested `use` trees are expanded.
    pub(crate) fn paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        for (at, _) in self.code.match_indices("use ") {
            let before = self.code.get(..at).unwrap_or_default();
            let line_start = before.rsplit('\n').next().unwrap_or_default().trim();
            if !(line_start.is_empty() || line_start.starts_with("pub")) {
                continue;
            }
            let tree = self.code.get(at + 4..).and_then(|rest| rest.split(';').next()).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            paths.extend(expand(tree).into_iter().map(|path| (line, path)));
        }
        for (index, line) in self.code.lines().enumerate() {
            let is_path = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
            let words = line.split(|character| !is_path(character)).filter(|word| word.contains("::"));
            paths.extend(words.map(|word| (index + 1, word.trim_matches(':').to_owned())));
        }
        paths.sort();
        paths.dedup();
        paths
    }

    /// All functions with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.code.lines().collect();
        let mut functions = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            if let Some(count) = body_lines(lines.get(index..).unwrap_or_default()) {
                functions.push(Function { name, line: index + 1, lines: count });
            }
        }
        functions
    }

    /// The lines that contain this word.
    pub(crate) fn lines_with(&self, word: &str) -> Vec<usize> {
        let has = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word);
        self.code.lines().enumerate().filter(|(_, line)| has(line)).map(|(index, _)| index + 1).collect()
    }
}

/// The name of the function that begins in this line, if any.
fn function_name(line: &str) -> Option<String> {
    let mut words = line.trim_start().split(' ').skip_while(|word| {
        word.starts_with("pub")
            || word.starts_with("in ")
            || matches!(*word, "async" | "const" | "unsafe" | "extern" | "default")
    });
    if words.next() != Some("fn") {
        return None;
    }
    let name = words.next()?;
    Some(name.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_owned())
}

/// The number of lines of the function that begins in the first line; `None` if it has no body.
fn body_lines(lines: &[&str]) -> Option<usize> {
    let (mut braces, mut brackets, mut has_body) = (0_usize, 0_usize, false);
    for (index, line) in lines.iter().enumerate() {
        for character in line.chars() {
            match character {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                '{' => {
                    braces += 1;
                    has_body = true;
                }
                '}' => braces = braces.saturating_sub(1),
                ';' if !has_body && brackets == 0 => return None,
                _ => {}
            }
            if has_body && braces == 0 {
                return Some(index + 1);
            }
        }
    }
    None
}

/// The paths in a `use` tree.
fn expand(tree: &str) -> Vec<String> {
    let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((prefix, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return if path.is_empty() { Vec::new() } else { vec![path.to_owned()] };
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let mut parts = vec![String::new()];
    let mut depth = 0_usize;
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts.iter().flat_map(|part| expand(part)).map(|path| format!("{}{path}", prefix.trim())).collect()
}

/// Blanks out comments, and the contents of strings and characters; lines stay the same.
fn blank(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest, blanked.chars().next_back()).unwrap_or(0);
        if length == 0 {
            blanked.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        } else {
            let (inside, after) = rest.split_at(length);
            blanked.extend(inside.chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    blanked
}

/// How many bytes at the start are a comment or a literal; `None` if they are code.
fn skipped(rest: &str, before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |at| at + 2));
    }
    if !in_word || matches!(before, Some('b' | 'c')) {
        let hashes = rest.strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
        if let Some(hashes) = hashes.filter(|hashes| rest.get(hashes + 1..).is_some_and(|raw| raw.starts_with('"'))) {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            return rest.get(start..)?.find(&end).map_or(Some(rest.len()), |at| Some(start + at + end.len()));
        }
    }
    match rest.chars().next()? {
        '"' => Some(literal_end(rest, '"')),
        // A lifetime has no closing quote after its first character.
        '\'' => {
            let mut characters = rest.chars().skip(1);
            let is_escape = characters.next()? == '\\';
            (is_escape || characters.next() == Some('\'')).then(|| literal_end(rest, '\''))
        }
        _ => None,
    }
}

/// Where a literal that begins with a quote ends.
fn literal_end(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return at + character.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Source::new(text).paths().into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let code = Source::new(
            "a(\"std::fs \\\" //\"); // std::net\nb('\"', r#\"std::\"net\"#, '\\'', x::<'a>); /* tokio */ c",
        )
        .code;
        assert!(!code.contains("std") && !code.contains("tokio"), "{code}");
        assert!(code.contains("b(") && code.contains("x::<'a>") && code.ends_with('c'), "{code}");
    }

    #[test]
    fn the_braces_of_a_use_are_taken_apart() {
        let found = paths("use std::{fmt, time::{Duration, Instant as I}};");
        for path in ["std::fmt", "std::time::Duration", "std::time::Instant"] {
            assert!(found.contains(&path.to_owned()), "{found:?}");
        }
        assert_eq!(paths("pub use crate::wire;"), ["crate::wire"]);
    }

    #[test]
    fn a_path_within_an_expression_is_found() {
        assert_eq!(paths("fn f() { let a = std::time::Instant::now(); }"), ["std::time::Instant::now"]);
    }

    #[test]
    fn unit_tests_do_not_count() {
        let source = Source::new("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n");
        assert_eq!((source.lines(), source.paths().len()), (2, 0));
    }

    #[test]
    fn a_function_goes_from_its_first_line_to_its_last_brace() {
        let source = Source::new(
            "trait T {\n    fn none(a: [u8; 2]);\n    pub(crate) async fn a<T>(\n        b: u8,\n    ) {\n        if b { '}' }\n    }\n}\n",
        );
        assert_eq!(source.functions(), [Function { name: "a".into(), line: 3, lines: 5 }]);
    }
}
