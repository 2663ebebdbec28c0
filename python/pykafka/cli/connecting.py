"""Which cluster `kafka-tools` connects to, and how: the options that are those of the command `kavka`, too.

Options and properties files are settings by their Kafka names, whose rules are the engine's.
"""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from pykafka import _engine

__all__ = ["add_options", "arguments", "in_options"]

#: The options by the settings that they are.
SETTINGS = {
    "security.protocol": (
        "security_protocol",
        "PROTOCOL",
        "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; the options below make it SSL or SASL_SSL",
    ),
    "ssl.ca.location": (
        "tls_ca",
        "FILE",
        "the PEM file with the authorities to trust; by default, those that the system trusts",
    ),
    "ssl.certificate.location": ("tls_certificate", "FILE", "the PEM file with the certificate to show"),
    "ssl.key.location": ("tls_key", "FILE", "the PEM file with its private key; $KAVKA_TLS_KEY_PASSWORD decrypts it"),
    "sasl.mechanism": ("sasl_mechanism", "MECHANISM", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI"),
    "sasl.username": (
        "sasl_username",
        "NAME",
        "the user; the password is in $KAVKA_SASL_PASSWORD or --sasl-password-file, because everybody sees arguments",
    ),
}

#: What else says what a setting says.
_ALSO = {
    "ssl.truststore.location": "--tls-ca",
    "ssl.key.password": "$KAVKA_TLS_KEY_PASSWORD",
    "sasl.password": "$KAVKA_SASL_PASSWORD or --sasl-password-file",
}

#: The options by the arguments that exceptions name.
_BY_ARGUMENT = [
    (r"arguments ssl_config, sasl\b", "options --tls-ca, --sasl-mechanism"),
    (r"argument ssl_config\b", "option --tls-ca"),
    (r"argument sasl\b", "option --sasl-mechanism"),
    (r"SslConfig\(cafile\)", "--tls-ca"),
    (r"SslConfig\(certfile\)", "--tls-certificate"),
    (r"SslConfig\(keyfile\)", "--tls-key"),
    (r"SslConfig\(password\)", "$KAVKA_TLS_KEY_PASSWORD"),
    (r"\bset ssl_config$", "set --security-protocol to SASL_SSL"),
    (r"\bssl_config\b", "--tls-ca"),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how to connect."""
    parser.add_argument("-b", "--broker", help="host:port of any broker (localhost:9092)")
    parser.add_argument(
        "-F",
        "--command-config",
        metavar="FILE",
        type=_path,
        help="a properties file, as Kafka's own tools read it: the brokers, and TLS and SASL",
    )
    group = parser.add_argument_group("TLS and SASL")
    for dest, metavar, text in SETTINGS.values():
        group.add_argument(f"--{dest.replace('_', '-')}", metavar=metavar, help=text)
    group.add_argument(
        "--sasl-password-file",
        metavar="FILE",
        type=_path,
        help="the file with the password; a newline at its end does not count",
    )


def arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `KafkaClient` that the options say.

    :raises ValueError: if options or properties are wrong, or contradict each other.
    """
    settings = _properties(args.command_config) if args.command_config else []
    given = {name: getattr(args, dest) for name, (dest, *_) in SETTINGS.items()}
    settings += [(name, value) for name, value in given.items() if value is not None]
    if args.sasl_password_file:
        settings.append(("sasl.password", _line(args.sasl_password_file)))
    _complete(settings, given)
    try:
        tls, sasl = _engine.security_of(settings)
    except ValueError as error:
        raise ValueError(_with_options(str(error))) from None
    hosts = args.broker or dict(settings).get("bootstrap.servers", "localhost:9092")
    return {"hosts": hosts, "ssl_config": tls, "sasl": sasl}


def in_options(text: str) -> str:
    """The text of an exception, with the options in place of the arguments of `KafkaClient` that it names."""
    for argument, option in _BY_ARGUMENT:
        text = re.sub(argument, option, text)
    return text


def _with_options(text: str) -> str:
    """Names the options beside the settings, for those who use no properties file."""
    options = {name: f"--{dest.replace('_', '-')}" for name, (dest, *_) in SETTINGS.items()} | _ALSO
    return _engine.beside_settings(text, list(options.items()))


def _path(text: str) -> Path:
    if _engine.is_content(text):
        raise argparse.ArgumentTypeError("give the path of a file, not its content")
    if text == "-":
        raise argparse.ArgumentTypeError("give the path of a file; that of standard input is /dev/stdin")
    return Path(text)


def _properties(path: Path) -> list[tuple[str, str]]:
    content = _content(path)
    try:
        settings, unknown = _engine.client_properties(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for why in unknown:
        print(f"kafka-tools: {path}: {why}; it is ignored", file=sys.stderr)
    return settings


def _line(path: Path) -> str:
    try:
        text = _content(path).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not valid UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def _complete(settings: list[tuple[str, str]], given: dict[str, str | None]) -> None:
    """Adds the protocol that the options need, and the passwords of the environment that the settings lack.

    Without a protocol by name, passwords are sent only over TLS.
    """
    names = {name for name, _ in settings}
    if "security.protocol" not in names:
        if given["sasl.mechanism"] or given["sasl.username"]:
            settings.append(("security.protocol", "SASL_SSL"))
        elif any(value is not None for name, value in given.items() if name.startswith("ssl.")):
            settings.append(("security.protocol", "SSL"))
    for variable, password, needed_by in [
        ("KAVKA_SASL_PASSWORD", "sasl.password", {"sasl.username"}),
        (
            "KAVKA_TLS_KEY_PASSWORD",
            "ssl.key.password",
            {"ssl.key.location", "ssl.keystore.location", "ssl.keystore.key"},
        ),
    ]:
        if needed_by & names and password not in names and variable in os.environ:
            settings.append((password, os.environ[variable]))
