//! TLS and SASL on the command line: options, properties files and passwords.

mod support;

use std::path::PathBuf;
use std::process::Output;

use support::{Broker, assert_one_sentence, text};

const CANARY: &str = "hunter2-canary";

/// A file that is removed at the end of the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kavka-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// Runs the command with a password in every variable.
fn run(broker: &Broker, arguments: &[&str]) -> Output {
    let mut command = broker.command(arguments);
    command.env("KAVKA_SASL_PASSWORD", CANARY).env("KAVKA_TLS_KEY_PASSWORD", CANARY).output().unwrap()
}

fn assert_refused(broker: &Broker, arguments: &[&str], part: &str) {
    let output = run(broker, arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    assert_one_sentence(&output, part);
    assert!(!text(&output.stderr).contains(CANARY), "{arguments:?}");
}

#[test]
fn options_that_contradict_each_other_are_refused_before_anything_is_sent() {
    let broker = Broker::start(&[]);
    let plain = ["--sasl-mechanism", "PLAIN", "--sasl-username", "alice"];
    for (arguments, part) in [
        (
            &["--tls-ca", "a", "--security-protocol", "PLAINTEXT"][..],
            "security.protocol (--security-protocol) does not use TLS",
        ),
        (&["--tls-key", "a"], "but ssl.certificate.location (--tls-certificate) is missing"),
        (&["--tls-certificate", "a"], "but ssl.key.location (--tls-key) is missing"),
        (&["--security-protocol", "SLL"], "did you mean SSL?"),
        (&["--sasl-username", "alice"], "sasl.mechanism (--sasl-mechanism) is missing"),
        (&["--sasl-mechanism", "PLAIN"], "sasl.username (--sasl-username) is missing"),
        (&["--sasl-mechanism", "PLAN"], "did you mean PLAIN?"),
        (
            &[&plain[..], &["--security-protocol", "SSL"]].concat(),
            "security.protocol (--security-protocol) does not use SASL",
        ),
        (&[&plain[..], &["--sasl-password-file", "/nowhere"]].concat(), "cannot read /nowhere"),
        (
            &[&plain[..], &["-X", "sasl.password="]].concat(),
            "sasl.password ($KAVKA_SASL_PASSWORD or --sasl-password-file) is missing or empty",
        ),
        (&[&plain[..], &["-X", "sasl.oauthbearer.scope=a"]].concat(), "sasl.oauthbearer.scope is set, but"),
    ] {
        assert_refused(&broker, &[&["topics"], arguments].concat(), part);
    }
    assert_refused(&broker, &["broker", "--tls-ca", "a"], "the broker is a cluster of its own");
}

#[test]
fn passwords_come_from_the_environment_a_file_or_a_properties_file_and_are_never_shown() {
    let broker = Broker::start(&[]);
    let file = File::new("password", &format!("{CANARY}\0\n"));
    let plain = ["topics", "--sasl-mechanism", "PLAIN", "--sasl-username", "alice"];
    assert_refused(&broker, &[&plain[..], &["--sasl-password-file", file.path()]].concat(), "NUL");
    let jaas = format!("Plain required username=\"alice\" password=\"{CANARY}\";");
    let properties = File::new(
        "jaas.properties",
        &format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.jaas.config={jaas}\nssl.key.password={CANARY}\n"
        ),
    );
    assert_refused(&broker, &["topics", "-F", properties.path()], "there is no private key");
}

#[test]
fn records_go_to_a_broker_with_tls_and_sasl_and_come_back() {
    let ca = File::new("ca.pem", "");
    let broker = Broker::start(&["--tls", ca.path(), "--user", &format!("alice:{CANARY}")]);
    let options = ["--tls-ca", ca.path(), "--sasl-mechanism", "SCRAM-SHA-512", "--sasl-username", "alice"];
    let password = File::new("password.txt", &format!("{CANARY}\r\n"));
    let with_file = ["--sasl-password-file", password.path()];
    broker.succeed(&[&["produce", "t", "--quiet"], &options[..], &with_file].concat(), b"secret\n");
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let text_of_file = format!(
        "security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location={}\nsasl.mechanism=PLAIN\n\
         sasl.jaas.config={module} required \\\n  username=\"alice\" password=\"{CANARY}\";\n",
        ca.path()
    );
    let file = File::new("secure.properties", &text_of_file);
    assert_eq!(broker.consume(&["t", "-F", file.path()]), "secret\n");
    let from_environment = run(&broker, &[&["topics"], &options[..]].concat());
    assert_eq!(from_environment.status.code(), Some(0), "{}", text(&from_environment.stderr));
    let wrong = broker.run(&[&["topics"], &options[..], &["-X", "sasl.password=not-hunter2-canary"]].concat(), b"");
    assert_eq!(wrong.status.code(), Some(1));
    assert_one_sentence(&wrong, "refused the credentials for SASL SCRAM-SHA-512");
    assert!(!text(&wrong.stderr).contains(CANARY));
}

#[test]
fn users_of_the_broker_and_their_passwords_come_from_a_file() {
    let users = File::new("users", &format!("alice:{CANARY}\n\nbob:with:colon\r\n"));
    let broker = Broker::start(&["--users-file", users.path()]);
    for (name, password) in [("alice", CANARY), ("bob", "with:colon")] {
        let options = ["topics", "--security-protocol", "SASL_PLAINTEXT", "--sasl-mechanism", "SCRAM-SHA-256"];
        let login = ["--sasl-username", name, "-X", &format!("sasl.password={password}")];
        broker.succeed(&[&options[..], &login].concat(), b"");
    }
    let wrong = File::new("wrong-users", &format!("alice:secret\n{CANARY}\n"));
    assert_refused(&broker, &["broker", "--users-file", wrong.path()], "line 2: write it like alice:alice-secret");
}

/// Otherwise it would start with other users than its owner thinks, or let everybody in.
#[test]
fn a_broker_does_not_start_with_users_that_are_not_what_they_look_like() {
    let broker = Broker::start(&[]);
    for (content, words) in [
        ("", "it names no user"),
        ("\n\n", "it names no user"),
        (":hunter2-canary", "line 1: the name ahead of the colon is missing"),
        ("alice:", "line 1: the password behind the colon is missing"),
        ("alice:hunter2-canary\nbob:b\nalice:other", "line 3: this name has come before"),
    ] {
        let users = File::new("odd-users", content);
        assert_refused(&broker, &["broker", "--port", "0", "--users-file", users.path()], words);
    }
    let twice = ["broker", "--port", "0", "--user", "alice:hunter2-canary", "--user", "alice:b"];
    assert_refused(&broker, &twice, "two --user have the same name");
    assert_refused(&broker, &["broker", "--port", "0", "--user", ":hunter2-canary"], "the name ahead of the colon");
}

#[test]
fn an_argument_that_is_not_written_as_it_should_be_may_be_a_password_and_is_not_shown() {
    let broker = Broker::start(&[]);
    for arguments in [
        &["topics", "-X", "sasl.password:hunter2-canary"][..],
        &["topics", "--property", "hunter2-canary"],
        &["broker", "--user", "alice-hunter2-canary"],
    ] {
        assert_refused(&broker, arguments, "is not shown, because it may be secret: ");
    }
}

#[test]
fn a_key_that_is_pasted_into_any_setting_is_not_printed() {
    let broker = Broker::start(&[]);
    for name in [
        "security.protocol",
        "sasl.mechanism",
        "ssl.enabled.protocols",
        "ssl.endpoint.identification.algorithm",
        "ssl.truststore.type",
        "bootstrap.servers",
        "client.id",
        "acks",
    ] {
        let key = "-----BEGIN PRIVATE KEY-----\\nhunter2-canary\\n-----END PRIVATE KEY-----\\n";
        let content = format!("security.protocol=SSL\n{name}={key}\n");
        let file = File::new("pasted-value.properties", &content);
        let output = run(&broker, &["topics", "-F", file.path()]);
        let said = text(&output.stderr);
        assert!(output.status.code() != Some(0) && !said.contains(CANARY), "{name}: {said}");
    }
}

/// `-` is standard input for many commands, and would be a file of that name here.
#[test]
fn a_dash_in_place_of_a_path_is_refused_with_the_path_of_standard_input() {
    let broker = Broker::start(&[]);
    for option in ["-F", "--sasl-password-file"] {
        let output = run(&broker, &["topics", option, "-"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("that of standard input is /dev/stdin"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_password_that_everybody_on_the_network_can_read_causes_a_warning() {
    let broker = Broker::start(&["--user", &format!("alice:{CANARY}")]);
    let warned = |mechanism| {
        let options = ["topics", "--security-protocol", "SASL_PLAINTEXT", "--sasl-username", "alice"];
        let output = run(&broker, &[&options[..], &["--sasl-mechanism", mechanism]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    assert_eq!(
        warned("PLAIN"),
        "kavka: warning: SASL PLAIN without TLS: everybody on the network can read the credentials, and use them; set \
         security.protocol (--security-protocol) to SASL_SSL\n"
    );
    assert_eq!(warned("SCRAM-SHA-256"), "");
}

#[test]
fn a_check_of_tls_that_is_turned_off_causes_a_warning() {
    let ca = File::new("unverified-ca.pem", "");
    let broker = Broker::start(&["--tls", ca.path()]);
    let stderr = |options: &[&str]| {
        let output = run(&broker, &[&["topics"], options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    assert_eq!(
        stderr(&["-X", "security.protocol=SSL", "-X", "ssl.insecure.accept.any.certificate=true"]),
        "kavka: warning: the certificates of brokers are not verified: everybody on the network can pass for a broker \
         (ssl.insecure.accept.any.certificate)\n"
    );
    assert_eq!(
        stderr(&["--tls-ca", ca.path(), "-X", "ssl.endpoint.identification.algorithm="]),
        "kavka: warning: the host names of brokers are not verified: everybody with a certificate of a trusted \
         authority can pass for a broker (ssl.endpoint.identification.algorithm)\n"
    );
    assert_eq!(stderr(&["--tls-ca", ca.path()]), "");
}

#[test]
fn a_properties_file_loads_no_class_looks_nothing_up_and_runs_nothing() {
    let broker = Broker::start(&[]);
    for (content, part) in [
        ("sasl.login.callback.handler.class=evil.Handler", "it names a Java class, and none is loaded"),
        ("sasl.client.callback.handler.class=evil.Handler", "it names a Java class, and none is loaded"),
        ("ssl.engine.factory.class=evil.Factory", "it names a Java class, and none is loaded"),
        ("security.providers=evil.Provider", "the cryptography of this client is fixed"),
        ("ssl.cipher.suites=TLS_RSA_WITH_NULL_MD5", "the cryptography of this client is fixed"),
        (
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n\
             sasl.jaas.config=com.sun.security.auth.module.JndiLoginModule required user.provider.url=\"ldap://evil\";",
            "must name org.apache.kafka.common.security.plain.PlainLoginModule",
        ),
        (
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=a\nsasl.password=${env:KAVKA_SASL_PASSWORD}\n\
             ssl.ca.location=${file:/etc/passwd}",
            "the CA certificates in ${file:/etc/passwd} cannot be read",
        ),
        (
            "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n\
             sasl.oauthbearer.token.endpoint.url=file:///etc/passwd\n\
             sasl.oauthbearer.client.credentials.client.id=a\nsasl.oauthbearer.client.credentials.client.secret=b",
            "not an https URL",
        ),
    ] {
        let file = File::new("hostile.properties", content);
        assert_refused(&broker, &["topics", "-F", file.path()], part);
    }
    // What the rest of Java's programs would load is not for us, and passed over.
    let file = File::new(
        "providers.properties",
        "config.providers=env\nconfig.providers.env.class=evil.Provider\nclient.id=${env:KAVKA_SASL_PASSWORD}\n\
         ssl.trustmanager.algorithm=evil\n",
    );
    let output = run(&broker, &["topics", "-F", file.path()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no setting is called `config.providers`; it is ignored"));
    let said = "ssl.trustmanager.algorithm has no effect here, because it chooses parts of Java; it is ignored";
    assert!(text(&output.stderr).contains(&format!("line 4: {said}")));
    let output = run(&broker, &["topics", "-X", "ssl.trustmanager.algorithm=evil"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), format!("kavka: {said}\n")));
}

#[test]
fn a_file_of_javas_client_leads_to_the_command_that_converts_its_stores() {
    let broker = Broker::start(&[]);
    let content = format!(
        "security.protocol=SSL\nssl.protocol=TLSv1.3\nssl.enabled.protocols=TLSv1.1,TLSv1.2\nssl.truststore.type=JKS\n\
         ssl.truststore.location=/etc/trust.jks\nssl.truststore.password={CANARY}\nssl.keystore.password={CANARY}\n"
    );
    let file = File::new("java.properties", &content);
    let output = run(&broker, &["topics", "-F", file.path()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("convert it with: keytool -list -rfc -keystore /etc/trust.jks > ca.pem"), "{said}");
    assert!(said.contains("line 6: ssl.truststore.password has no effect here, because") && !said.contains(CANARY));
}

#[test]
fn a_properties_file_is_read_as_kafkas_own_tools_read_it() {
    let broker = Broker::start(&[]);
    let servers = &broker.bootstrap_servers;
    let text_of_file = format!(
        "# shared by all programs\nbootstrap.servers : \\\n   {servers}\nlinger.ms=0\nfetch.min.bytes 1\nkey.serializer=a.B\n"
    );
    let file = File::new("client.properties", &text_of_file);
    let mut produce = broker.command(&["produce", "t", "--quiet", "-F", file.path()]);
    let output =
        produce.env("KAVKA_BOOTSTRAP_SERVERS", "127.0.0.1:1").stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_one_sentence(&output, "line 6: no setting is called `key.serializer`; it is ignored");
    let elsewhere = broker.run(&["topics", "--command-config", file.path(), "-b", "good:1,h:0"], b"");
    assert!(text(&elsewhere.stderr).contains("`h:0` has a port"), "{}", text(&elsewhere.stderr));
}

/// Each line of a key that is pasted as it is, without `\` at the ends of its lines, reads as a name.
#[test]
fn a_key_that_is_pasted_into_a_properties_file_is_never_printed() {
    let broker = Broker::start(&[]);
    let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nhunter2canary0123456789+abcdefgh\nhunter2canary=\n";
    let content = format!("ssl.keystore.key=-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n");
    let file = File::new("pasted.properties", &content);
    let output = run(&broker, &["topics", "-F", file.path()]);
    let said = text(&output.stderr);
    for line in 2..=5 {
        assert!(said.contains(&format!("{}: line {line}: no setting is called so; ", file.path())), "{said}");
    }
    for line in key.lines() {
        assert!(!said.contains(line.trim_end_matches('=')), "{said}");
    }
}

#[test]
fn the_content_of_a_file_in_place_of_its_path_is_refused_and_not_printed() {
    let broker = Broker::start(&[]);
    let key = format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----");
    let token = format!("eyJ{CANARY}");
    for option in ["--tls-ca", "--tls-certificate", "--tls-key"] {
        assert_refused(&broker, &["topics", option, &key], &format!("the value of {option} is the content of a file"));
        assert_refused(&broker, &["topics", &format!("{option}={key}")], &format!("({option}) holds a"));
        assert_refused(&broker, &["topics", option, &token], &format!("({option}) holds a"));
    }
    let lines = format!("sasl.username=alice\nsasl.password={CANARY}\n");
    for option in ["-F", "--sasl-password-file", "-X"] {
        for content in [&key, &token, &lines] {
            if (option, content) != ("-X", &lines) {
                let words = format!("the value of {option} is the content");
                assert_refused(&broker, &["topics", option, content], &words);
                let joined =
                    if option.starts_with("--") { format!("{option}={content}") } else { format!("{option}{content}") };
                assert_refused(&broker, &["topics", &joined], &words);
            }
        }
    }
    for option in ["--tls", "--users-file"] {
        for content in [&key, &token, &key.replace('\n', " ")] {
            let words = format!("the value of {option} is the content of a file");
            assert_refused(&broker, &["broker", option, content], &words);
            assert_refused(&broker, &["broker", &format!("{option}={content}")], &words);
        }
    }
    for name in [
        "ssl.truststore.location",
        "ssl.ca.location",
        "ssl.keystore.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "sasl.oauthbearer.token.file",
    ] {
        assert_refused(&broker, &["topics", "-X", &format!("{name}={key}")], "and not a path");
        let in_one_line = key.replace('\n', "\\n\\\n");
        let file = File::new("content.properties", &format!("{name}={in_one_line}\n"));
        assert_refused(&broker, &["topics", "-F", file.path()], "and not a path");
    }
}

#[test]
fn a_properties_file_with_a_mistake_is_refused() {
    let broker = Broker::start(&[]);
    assert_refused(&broker, &["topics", "-F", "/nowhere.properties"], "cannot read /nowhere.properties");
    for (content, part) in [
        ("security.protcol=SSL", "did you mean security.protocol?"),
        ("ssl.truststore.locaton=a", "did you mean ssl.truststore.location?"),
        ("ssl.truststore.location=trust.jks\nsecurity.protocol=SSL", "keytool -list -rfc -keystore trust.jks"),
        ("a=1\nsasl.password=\\u12hunter2-canary", "line 2: "),
    ] {
        let file = File::new("wrong.properties", content);
        assert_refused(&broker, &["topics", "-F", file.path()], part);
    }
}
