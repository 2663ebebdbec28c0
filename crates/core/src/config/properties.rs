//! Reads properties files, as `java.util.Properties` and therefore Kafka's own tools do.

use super::{ClientConfig, Setting, all_settings, names};
use crate::error::{Error, ErrorKind, Result};

/// Of the properties in a file's content, those of a client and of what `tables` describe; and why others are ignored
/// that are no setting of anything.
///
/// One file is used by several programs, as with Kafka's own tools. So settings for others are left out, and an
/// unknown name is no error, unless it looks like one of TLS or SASL: if that were ignored, a password might go out
/// unencrypted. Those names of Java's client pass that have nothing to do here.
///
/// The text is UTF-8; if it is not, it is Latin-1, as in Java. `\uXXXX` works in both.
///
/// # Errors
///
/// `Config`, for an unknown name that begins with `security.`, `ssl.` or `sasl.`, and for an escape that has no
/// meaning. Errors have the number of the line, but nothing of what is in it except a setting's name, because the rest
/// may be a password or a key.
#[allow(clippy::type_complexity)]
pub fn select_properties(bytes: &[u8], tables: &[&[Setting]]) -> Result<(Vec<(String, String)>, Vec<Error>)> {
    let is_in = |table: &[Setting], name: &str| table.iter().any(|setting| setting.name == name);
    let (mut used, mut ignored) = (Vec::new(), Vec::new());
    for (number, name, value) in parse(bytes)? {
        if is_in(ClientConfig::SETTINGS, &name) || tables.iter().any(|table| is_in(table, &name)) {
            used.push((name, value));
        } else if let Some(why) = names::without_effect(&name, &value) {
            ignored.push(Error::new(ErrorKind::Config, format!("line {number}: {why}")));
        } else if !all_settings().any(|setting| setting.name == name) {
            let why = names::unknown(&name, &value, &[ClientConfig::SETTINGS]);
            let error = Error::new(ErrorKind::Config, format!("line {number}: {why}"));
            if ["security.", "ssl.", "sasl."].iter().any(|prefix| name.starts_with(prefix)) {
                return Err(error);
            }
            ignored.push(error);
        }
    }
    Ok((used, ignored))
}

/// The properties of a file in its order: the number of the line, the name and the value.
fn parse(bytes: &[u8]) -> Result<Vec<(usize, String, String)>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    let mut properties = Vec::new();
    for (number, line) in logical_lines(text.trim_start_matches('\u{feff}')) {
        let (name, value) = split(&line);
        let (name, value) = unescape(name).zip(unescape(value)).ok_or_else(|| {
            let what = format!("line {number}: \\u must be followed by four hexadecimal digits");
            Error::new(ErrorKind::Config, what)
        })?;
        properties.push((number, name, value));
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
    use crate::config::{Login, ProducerConfig, Sasl};
    use crate::secret::Secret;

    fn read(content: impl AsRef<[u8]>) -> Vec<(String, String)> {
        parse(content.as_ref()).unwrap().into_iter().map(|(_, name, value)| (name, value)).collect()
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
            let refused = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(refused.starts_with("line 1: "), "{text}: {refused}");
        }
    }

    #[test]
    fn a_file_is_utf_8_or_otherwise_latin_1() {
        assert_eq!(read("\u{feff}a=\u{e4}"), pairs(&[("a", "\u{e4}")]));
        assert_eq!(read(b"a=\xe4"), pairs(&[("a", "\u{e4}")]));
    }

    #[test]
    fn a_file_for_several_programs_is_used_as_far_as_it_concerns_this_one() {
        let shared = "client.id=me\nlinger.ms=0\nfetch.min.bytes=1\n\nkey.serializer=a.B";
        let (used, unknown) = select_properties(shared.as_bytes(), &[ProducerConfig::SETTINGS]).unwrap();
        assert_eq!(used, pairs(&[("client.id", "me"), ("linger.ms", "0")]));
        let unknown: Vec<_> = unknown.iter().map(ToString::to_string).collect();
        assert_eq!(unknown, ["line 5: no setting is called `key.serializer`"]);
        for name in ["security.protcol", "ssl.truststores", "sasl.user"] {
            let refused = select_properties(format!("{name}=a").as_bytes(), &[]).unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
        }
    }

    #[test]
    fn names_of_javas_client_pass_if_they_have_nothing_to_do_here_and_are_told() {
        let classes = "org.apache.kafka.common.security.oauthbearer";
        let handler = format!("{classes}.OAuthBearerLoginCallbackHandler");
        let checked = "it says how tokens are checked, and brokers do that";
        for (line, why) in [
            ("ssl.truststore.password=hunter2", "certificates in a PEM file need no password"),
            ("ssl.keystore.password=hunter2", "a PEM file has no password but that of its key, ssl.key.password"),
            ("ssl.protocol=TLSv1.2", "ssl.enabled.protocols says which versions of TLS are used"),
            ("ssl.cipher.suites=", "it is empty"),
            ("ssl.trustmanager.algorithm=PKIX", "it chooses parts of Java"),
            ("sasl.login.refresh.window.factor=0.5", "a token is replaced when 80 % of its life have passed"),
            (&format!("sasl.login.callback.handler.class={handler}"), "what Kafka's own classes do is built in"),
            (&format!("sasl.oauthbearer.jwt.retriever.class={classes}.DefaultJwtRetriever"), "what Kafka's own"),
            (&format!("sasl.oauthbearer.jwt.retriever.class={classes}.ClientCredentialsJwtRetriever"), "what Kafka's"),
            (&format!("sasl.oauthbearer.jwt.validator.class={classes}.ClientJwtValidator"), checked),
            ("sasl.oauthbearer.header.urlencode=false", "the client's id and secret are sent as they are written"),
            ("sasl.oauthbearer.clock.skew.seconds=30", checked),
            ("sasl.oauthbearer.expected.audience=a", checked),
            ("sasl.oauthbearer.expected.issuer=https://id.example", checked),
            ("sasl.oauthbearer.scope.claim.name=scp", checked),
            ("sasl.oauthbearer.jwks.endpoint.url=https://id.example/keys", checked),
            ("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms=1", checked),
        ] {
            let (used, ignored) = select_properties(line.as_bytes(), &[]).unwrap();
            let name = line.split('=').next().unwrap();
            let told = ignored[0].to_string();
            assert!(told.starts_with(&format!("line 1: {name} has no effect here, because {why}")), "{told}");
            assert!(used.is_empty() && !told.contains("hunter2"), "{used:?} {told}");
            let refused = ClientConfig::from_properties([line.split_once('=').unwrap()]).unwrap_err().to_string();
            assert!(refused.ends_with(": leave it out") && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn names_of_other_clients_that_would_be_missed_are_refused_with_what_to_write() {
        let retriever = "sasl.oauthbearer.jwt.retriever.class=org.apache.kafka.common.security.oauthbearer";
        for (line, instead) in [
            ("sasl.login.callback.handler.class=a.B", "it names a Java class, and none is loaded: leave it out, and"),
            ("sasl.client.callback.handler.class=a.B", "it names a Java class, and none is loaded"),
            ("ssl.engine.factory.class=a.B", "it names a Java class, and none is loaded"),
            ("sasl.kerberos.keytab=/a.keytab", "set the variable KRB5_CLIENT_KTNAME to the path of the keytab"),
            ("sasl.mechanisms=PLAIN", "write sasl.mechanism"),
            ("ssl.key.pem=hunter2", "write ssl.keystore.key"),
            ("ssl.cipher.suites=TLS_AES_256_GCM_SHA384", "the cryptography of this client is fixed, is not certified"),
            ("security.providers=a.FipsProviderCreator", "the cryptography of this client is fixed"),
            ("ssl.provider=BCJSSE", "the cryptography of this client is fixed"),
            ("sasl.oauthbearer.jwt.retriever.class=a.B", "it names a Java class, and none is loaded"),
            (
                &format!("{retriever}.JwtBearerJwtRetriever"),
                "the client does not make or send assertions: leave it out",
            ),
            (&format!("{retriever}.FileJwtRetriever"), "write sasl.oauthbearer.token.file with the path of the token"),
            ("sasl.oauthbearer.jwt.validator.class=a.B", "it names a Java class, and none is loaded"),
            ("sasl.oauthbearer.header.urlencode=TRUE", "leave it out, and write the client's id and secret in URL"),
            (
                "sasl.oauthbearer.assertion.private.key.passphrase=hunter2",
                "the client does not make or send assertions",
            ),
            ("sasl.oauthbearer.assertion.file=/a.jwt", "the client does not make or send assertions"),
        ] {
            let refused = select_properties(line.as_bytes(), &[]).unwrap_err().to_string();
            let name = line.split('=').next().unwrap();
            assert!(refused.starts_with(&format!("line 1: {name} is not supported: {instead}")), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    /// Each line of a key that is pasted as it is, without `\` at the ends of its lines, reads as a name.
    #[test]
    fn a_pasted_key_is_never_shown() {
        let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nabcdefgh0123=\ncg==\nx+y/z\n";
        let file =
            format!("client.id=me\nssl.keystore.key=-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n");
        let (used, unknown) = select_properties(file.as_bytes(), &[]).unwrap();
        assert_eq!(used, pairs(&[("client.id", "me"), ("ssl.keystore.key", "-----BEGIN PRIVATE KEY-----")]));
        let unknown: Vec<_> = unknown.iter().map(ToString::to_string).collect();
        let expected = (3..=7).map(|line| {
            format!(
                "line {line}: no setting is called so; the name is not shown, because it may be a part of a secret: each \
                 line of a value but the last must end with \\"
            )
        });
        assert_eq!(unknown, expected.collect::<Vec<_>>());
        let refused = select_properties(b"ssl.MIIEvQIBADANBgkqhkiG9w0BAQEFAASC=a", &[]).unwrap_err().to_string();
        assert!(refused.starts_with("line 1: ") && !refused.contains("MIIE"), "{refused}");
    }

    /// A name in a value is no reference: nothing is looked up in the environment, in files or by a class.
    #[test]
    fn placeholders_stay_what_they_are() {
        let placeholders = ["${env:HOME}", "${file:/etc/passwd:root}", "$HOME", "%HOME%", "~/.netrc"];
        for placeholder in placeholders {
            let file = format!("client.id={placeholder}\nssl.ca.location={placeholder}\nsecurity.protocol=SSL\n");
            let config = ClientConfig::from_properties(read(&file)).unwrap();
            assert_eq!((config.client_id.as_str(), config.ssl_ca_location), (placeholder, Some(placeholder.into())));
            let login = Login::new(placeholder, Secret::new(placeholder));
            let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
            for credentials in [
                format!("sasl.username={placeholder}\nsasl.password={placeholder}"),
                format!("sasl.jaas.config={module} required username=\"{placeholder}\" password=\"{placeholder}\";"),
            ] {
                let file = format!("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n{credentials}\n");
                let config = ClientConfig::from_properties(read(&file)).unwrap();
                assert_eq!(config.security().unwrap().sasl, Some(Sasl::Plain(login.clone())));
            }
        }
    }
}
