"""The stock SDKs, told nothing but a domain: wildcard DNS and TLS, on a loopback address of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from daemon import Daemon
from names import Names

DOMAIN = "boxes.test"
HERE = Path(__file__).parent
SUITE = ["async", "commands", "files", "javascript", "pty", "sandbox"]


class House:
    """A daemon behind a domain."""

    def __init__(self, port, certificate=None):
        self.names = Names(DOMAIN)
        self.daemon = Daemon()
        self.daemon.settings = {"ATOLL_TLS_DOMAIN": DOMAIN, "ATOLL_TLS_LISTEN": f"{self.names.address}:{port}"}
        trusted = self.daemon.data / "tls" / f"{DOMAIN}.pem"
        if certificate:
            chain, key, trusted = certificate(self.daemon.data)
            self.daemon.settings |= {"ATOLL_TLS_CERTIFICATE": str(chain), "ATOLL_TLS_KEY": str(key)}
        self.daemon.start()
        domain = DOMAIN if port == 443 else f"{DOMAIN}:{port}"
        self.env = {"E2B_DOMAIN": domain, "E2B_API_KEY": self.daemon.key, "SSL_CERT_FILE": str(trusted), "NODE_EXTRA_CA_CERTS": str(trusted)}

    def run(self, *arguments, **changes):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")} | self.env | changes
        return subprocess.run(self.names.command(*arguments), env=environment, capture_output=True, text=True, timeout=900, cwd=HERE)

    def pytest(self, *arguments, **changes):
        done = self.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, ATOLL_TEST_INSIDE="1", **changes)
        print(done.stdout[-3000:])
        assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]

    def close(self):
        try:
            self.daemon.close()
        finally:
            self.names.close()


@pytest.fixture(scope="module")
def house():
    house = House(443)
    yield house
    house.close()


def test_the_sdks_with_a_domain_alone(house):
    house.pytest(*(f"test_{name}.py" for name in SUITE))


def test_ports_links_and_ends(house):
    house.pytest("inside_domain.py")


def test_a_given_certificate_on_another_port():
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    house = House(8443, issue)
    try:
        house.pytest("inside_domain.py")
    finally:
        house.close()


def issue(directory):
    """A certificate for the domain, its key, and the certificate of who issued it."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl("req", "-x509", *new, "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem")
    leaf = ["-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:*.{DOMAIN}", "-addext", "basicConstraints=critical,CA:FALSE"]
    openssl("req", "-x509", *new, *leaf, "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "leaf.key", "-out", "leaf.pem")
    return directory / "leaf.pem", directory / "leaf.key", directory / "ca.pem"


def test_an_untrusted_authority_is_refused(house):
    atoll = Path(house.daemon.process.args[0]).with_name("atoll")
    ours = house.run(atoll, "sandbox", "ls")
    assert ours.returncode == 0, ours.stderr
    done = house.run(atoll, "sandbox", "ls", SSL_CERT_FILE="")
    assert done.returncode == 5 and "--ca" in done.stderr, done.stderr
    nobody = "from e2b import Sandbox; Sandbox.create()"
    assert "certificate" in house.run(sys.executable, "-c", nobody, SSL_CERT_FILE="").stderr.lower()
