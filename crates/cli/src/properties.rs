//! Reads properties files, as `java.util.Properties` and therefore Kafka's own tools do.

/// The properties of a file, in its order.
///
/// The text is UTF-8; if it is not, it is Latin-1, as in Java. `\uXXXX` works in both. An error names the line, but
/// shows nothing of it, because it may contain a password.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    let mut properties = Vec::new();
    for (number, line) in logical_lines(text.trim_start_matches('\u{feff}')) {
        let (name, value) = split(&line);
        let decoded = unescape(name).zip(unescape(value));
        properties
            .push(decoded.ok_or_else(|| format!("line {number}: \\u must be followed by four hexadecimal digits"))?);
    }
    Ok(properties)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// The lines that are no comments, each with the lines that continue it and the number of its first one.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    for (index, line) in text.split('\n').enumerate() {
        let line = line.trim_start_matches(is_blank);
        if !continues && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let ends_in_backslashes = line.chars().rev().take_while(|c| *c == '\\').count();
        let goes_on = ends_in_backslashes % 2 == 1;
        let line = if goes_on { line.strip_suffix('\\').unwrap_or(line) } else { line };
        match lines.last_mut() {
            Some((_, begun)) if continues => begun.push_str(line),
            _ => lines.push((index + 1, line.to_owned())),
        }
        continues = goes_on;
    }
    lines
}

/// The name and the value, still with their escapes: the name ends at the first `=`, `:` or white space.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (matches!(c, '=' | ':') || is_blank(c));
        escaped = !escaped && c == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start_matches(is_blank))
}

/// Replaces escapes; `None` if one has no meaning.
fn unescape(text: &str) -> Option<String> {
    // `\u` gives halves of a character, as Java stores it.
    let mut halves: Vec<u16> = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            '\\' => match letters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = letters.by_ref().take(4).collect();
                    let is_number = digits.len() == 4 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
                    halves.push(u16::from_str_radix(&digits, 16).ok().filter(|_| is_number)?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        halves.extend_from_slice(letter.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&halves).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_end_at_an_equals_sign_a_colon_or_a_blank() {
        let text = "a=1\nb:2\nc 3\nd = 4\ne\t:\t5 \nf==6\ng\nh=\n";
        let expected = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5 "), ("f", "=6"), ("g", ""), ("h", "")];
        assert_eq!(read(text), pairs(&expected));
    }

    #[test]
    fn comments_and_blank_lines_are_left_out_but_not_inside_a_continued_line() {
        let text = "# a=1\n  ! b=2\n\n \t\r\nc=1,\\\n   # 2,\\\r\n\t3\nd=4#5\\\\\ne=6\\";
        assert_eq!(read(text), pairs(&[("c", "1,# 2,3"), ("d", "4#5\\"), ("e", "6")]));
    }

    #[test]
    fn escapes_are_those_of_java() {
        let text = r"a\=b\:\ c=\t\n\u00e4\uD83D\uDE00\q\\ ";
        assert_eq!(read(text), pairs(&[("a=b: c", "\t\n\u{e4}\u{1f600}q\\ ")]));
        for text in [r"a=\u12", r"a=\uzzzz", r"a=\u+123", r"a=\ud83d"] {
            assert!(parse(text.as_bytes()).unwrap_err().starts_with("line 1: "), "{text}");
        }
    }

    #[test]
    fn a_file_is_utf_8_or_otherwise_latin_1() {
        assert_eq!(read("\u{feff}a=\u{e4}"), pairs(&[("a", "\u{e4}")]));
        assert_eq!(parse(b"a=\xe4").unwrap(), pairs(&[("a", "\u{e4}")]));
    }
}
