"""A Kerberos server (MIT's KDC) on loopback, with a realm of its own, for the mechanism GSSAPI.

If its programs are not installed, they are fetched with apt into `.kafka/` and used from there; that needs Debian or
Ubuntu, and no privileges.
"""

import re
import shutil
from pathlib import Path

from . import HarnessError, artifacts, certificates
from .processes import ReservedPort, spawn

REALM = "KAVKA.TEST"
#: The service that brokers are, and a client's principal.
SERVICE, CLIENT = "kafka/localhost", "kavka-client"
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_PACKAGES = ["krb5-kdc", "krb5-admin-server", "krb5-user", "libgssapi-krb5-2"]
# Of all that these depend on, what a system without Kerberos may lack.
_NEEDED = re.compile(r"krb5-(kdc|admin-server|user)$|lib(krb5|k5crypto|gss|kadm5|kdb5|verto|ev4|ss2|keyutils|com-err2)")


class Kdc:
    """A realm with two principals; `start` creates and serves it.

    Its files are in `folder`: `krb5.conf`, `service.keytab`, `client.keytab` and `client.ccache`, the client's ticket.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir()
        self.config = self.folder / "krb5.conf"
        self.service_keytab, self.client_keytab = self.folder / "service.keytab", self.folder / "client.keytab"
        self.client_cache = self.folder / "client.ccache"
        self._port = ReservedPort()
        self._root = None if all(map(_installed, _PROGRAMS)) else _fetched()
        self.process = None

    @property
    def environment(self):
        """What a program needs in its environment to be the client."""
        needed = {"KRB5_CONFIG": self.config, "KRB5CCNAME": f"FILE:{self.client_cache}"}
        return {name: str(value) for name, value in (needed | self._library_path()).items()}

    def start(self):
        """Creates the realm and its principals, and starts the server."""
        self._write_config()
        self._run("kdb5_util", "create", "-s", "-P", "master-secret")
        for principal, keytab in ((SERVICE, self.service_keytab), (CLIENT, self.client_keytab)):
            self._run("kadmin.local", "-q", f"addprinc -randkey {principal}")
            self._run("kadmin.local", "-q", f"ktadd -k {keytab} {principal}")
        command = ["env", *(f"{name}={value}" for name, value in self._environment().items())]
        self.process = spawn([*command, self.program("krb5kdc"), "-n", "-r", REALM], self.folder / "kdc.log")

    def is_ready(self):
        """Whether the client gets a ticket."""
        try:
            self._run("kinit", "-k", "-t", str(self.client_keytab), "-c", f"FILE:{self.client_cache}", CLIENT)
        except HarnessError:
            return False
        return True

    def _write_config(self):
        modules = f"db_module_dir = {next(self._root.glob('**/plugins/kdb'))}" if self._root else ""
        self.config.write_text(
            f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            " dns_canonicalize_hostname = false\n rdns = false\n udp_preference_limit = 1\n"
            f" permitted_enctypes = aes256-cts-hmac-sha1-96\n"
            f'[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{self._port.number}\n  kdc_ports = ""\n'
            f'  kdc_listen = ""\n  kdc_tcp_listen = 127.0.0.1:{self._port.number}\n'
            f"  database_name = {self.folder}/principal\n  key_stash_file = {self.folder}/stash\n"
            f"  acl_file = {self.folder}/acl\n  max_life = 1d\n }}\n"
            f"[domain_realm]\n localhost = {REALM}\n[dbmodules]\n {modules}\n"
            f"[logging]\n kdc = FILE:{self.folder}/kdc.log\n"
        )

    def _environment(self):
        ours = {"KRB5_CONFIG": self.config, "KRB5_KDC_PROFILE": self.config} | self._library_path()
        return {name: str(value) for name, value in ours.items()}

    def _library_path(self):
        folders = {library.parent for library in self._root.glob("**/lib*.so*")} if self._root else set()
        return {"LD_LIBRARY_PATH": ":".join(sorted(map(str, folders)))} if folders else {}

    def _run(self, program, *arguments):
        certificates.run([self.program(program), *arguments], self.folder, env=self._environment())

    def program(self, name):
        """The path of one of MIT's programs."""
        found = _installed(name) or (self._root and next(self._root.glob(f"usr/*bin/{name}*"), None))
        if not found:
            raise HarnessError(f"no program {name!r}: GSSAPI needs it, install krb5-kdc, krb5-admin-server, krb5-user")
        return str(found)


def _installed(program):
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def _fetched():
    with artifacts.made_once("kerberos") as folder:
        if folder:
            depends = ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in _OTHER_RELATIONS), *_PACKAGES]
            names = certificates.run(depends, folder).decode().splitlines()
            wanted = sorted({name for name in names if _NEEDED.match(name)})
            certificates.run(["apt-get", "download", *wanted], folder)
            for package in folder.glob("*.deb"):
                certificates.run(["dpkg-deb", "-x", package.name, "."], folder)
                package.unlink()
    return artifacts.STORE / "kerberos"


_OTHER_RELATIONS = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
