//! Escapes in arguments, for what is hard to type in a shell: `\n`, `\t`, `\r`, `\0`, `\\` and `\xHH`.

/// Resolves the escapes in `text`.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match rest.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                let is_hex = digits.len() == 2 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
                let byte = if is_hex { u8::from_str_radix(&digits, 16).ok() } else { None };
                byte.ok_or("\\x takes two hexadecimal digits")?
            }
            _ => return Err("after a backslash comes n, t, r, 0, x or another backslash".to_owned()),
        });
    }
    Ok(bytes)
}

/// The bytes to print after each record; may be empty.
pub(crate) fn ending(text: &str) -> Result<Separator, String> {
    unescape(text).map(Separator)
}

/// The bytes that separate records in the input; must not be empty.
pub(crate) fn separator(text: &str) -> Result<Separator, String> {
    let bytes = unescape(text)?;
    if bytes.is_empty() { Err("a separator has at least one byte".to_owned()) } else { Ok(Separator(bytes)) }
}

/// Separates two records, or a key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Separator(pub(crate) Vec<u8>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescape(r"a\tb\n\0\\\xff").unwrap(), b"a\tb\n\0\\\xff");
        assert_eq!(unescape("grün").unwrap(), "grün".as_bytes());
    }

    #[test]
    fn an_escape_that_stands_for_nothing_is_refused() {
        for text in [r"\", r"\q", r"\x1", r"\xzz", r"\x+1"] {
            assert!(unescape(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_separator_has_at_least_one_byte() {
        assert!(separator("").is_err());
    }
}
