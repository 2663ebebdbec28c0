"""Makes certificates with the `openssl` program: an authority, and a server and a client that it has signed.

All keys are PKCS#8, as Kafka's PEM key stores want them. Kafka before 2.7 reads key stores only in Java's formats:
`java_stores` makes these too.
"""

import subprocess
from pathlib import Path

from . import HarnessError

#: The password of everything that must have one: key stores, and the encrypted key of the client.
PASSWORD = "keystore-secret"
_EXTENSIONS = """\
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth
[client]
extendedKeyUsage = clientAuth
"""


def create(folder):
    """Writes `ca.pem`, and `NAME.pem`, `NAME.key` and `NAME-all.pem` (key and chain) for server and client.

    Besides, `client-encrypted.key` is the client's key under `PASSWORD`. The server's certificate is for `localhost`
    and 127.0.0.1; the client's name is `CN=kavka-client`.
    """
    folder = Path(folder)
    folder.mkdir()
    (folder / "extensions.cnf").write_text(_EXTENSIONS)
    _request(folder, "ca", "kavka test authority")
    _openssl(folder, "x509 -req -in ca.csr -signkey ca.key -out ca.pem -days 30", "authority")
    for name, common_name in (("server", "kavka-server"), ("client", "kavka-client")):
        _request(folder, name, common_name)
        sign = f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 30"
        _openssl(folder, sign, name)
        (folder / f"{name}-all.pem").write_text(
            "".join((folder / f"{name}{end}").read_text() for end in (".key", ".pem"))
        )
    _openssl(folder, f"pkcs8 -topk8 -in client.key -out client-encrypted.key -v2 aes-256-cbc -passout pass:{PASSWORD}")


def java_stores(folder):
    """Writes `server.p12` (key and certificate) and `trust.p12` (the authority), for `PASSWORD`."""
    _openssl(folder, f"pkcs12 -export -in server.pem -inkey server.key -out server.p12 -passout pass:{PASSWORD}")
    # Java trusts a certificate in such a store only if it has an attribute that just keytool writes.
    trust = "keytool -importcert -noprompt -alias ca -file ca.pem -keystore trust.p12 -storetype PKCS12"
    run([*trust.split(), "-storepass", PASSWORD], folder)


def signing_key(folder):
    """Writes `tokens.key`, an RSA key for signing tokens, and returns its modulus."""
    _openssl(folder, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out tokens.key")
    modulus = _openssl(folder, "rsa -in tokens.key -noout -modulus").decode()
    return int(modulus.removeprefix("Modulus="), 16)


def run(command, folder, **options):
    """Runs a program in `folder`; returns its output."""
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, **options)
    except FileNotFoundError:
        raise HarnessError(f"no program {command[0]!r}: secure listeners need it, install it") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise HarnessError(f"{' '.join(map(str, command))} ended with status {done.returncode}: {said[-2000:]}")
    return done.stdout


def _request(folder, name, common_name):
    _openssl(
        folder,
        f"req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj",
        name=f"/CN={common_name}",
    )


def _openssl(folder, arguments, section=None, name=None):
    command = ["openssl", *arguments.split()]
    if section:
        command += ["-extfile", "extensions.cnf", "-extensions", section]
    if name:
        command.append(name)
    return run(command, folder)
