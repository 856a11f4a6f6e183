"""TLS and mTLS, with certificates made here, through the options that `make serve` passes on."""

from __future__ import annotations

import re
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import ROOT, running_service
from tests.service.guarded import Keys, bearer, without_generator


class Authority:
    """Signs certificates and writes them into a folder, each with its key."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = self._write(name, self._certificate(self.name, self.key, ca=True), self.key)[0]

    def issue(self, name: str) -> tuple[str, str]:
        """The files of the certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(name, self._certificate(subject, key), key)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool = False
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
            )
        )
        if not ca:
            here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
            builder = builder.add_extension(here, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> tuple[str, str]:
        files = [self.folder / f"{name}.{end}" for end in ("pem", "key")]
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return str(files[0]), str(files[1])


def trusting(authority: Authority, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.path)
    if certificate:
        context.load_cert_chain(*certificate)
    return context


def test_only_clients_with_a_certificate_come_in_and_keys_are_asked_of_them_too(
    tmp_path: Path,
) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    certificate, key = ours.issue("service")
    known = trusting(ours, ours.issue("bridge"))
    keys = Keys(tmp_path)
    options = {"--ssl-certfile": certificate, "--ssl-keyfile": key}
    options |= {"--ssl-ca-certs": ours.path, "--ssl-cert-reqs": "2"}
    more = {**without_generator(tmp_path), "ECG_WORKERS": "1", "ECG_DATABASE_URL": keys.url}
    with running_service(tmp_path, host="0.0.0.0", tls=options, verify=known, **more) as service:
        for stranger in (trusting(ours), trusting(ours, others.issue("stranger"))):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{service.url}/livez", verify=stranger, timeout=60)
        with httpx.Client(base_url=service.url, verify=known, timeout=60) as client:
            refused = client.get("/models")
            assert refused.status_code == 401
            assert "max-age" in refused.headers["strict-transport-security"]
            assert client.get("/models", headers=bearer(keys.make())).status_code == 200
            signed_in = client.post(
                "/session", data={"key": keys.make()}, headers={"Origin": service.url}
            )
            assert signed_in.status_code in (303, 401)  # the key may be too new by a moment
        with pytest.raises(httpx.TransportError):
            httpx.get(service.url.replace("https", "http") + "/livez", timeout=60)


def test_make_serve_passes_certificates_on() -> None:
    def command(*settings: str) -> str:
        done = subprocess.run(
            ["make", "--dry-run", "--always-make", "serve", *settings],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return re.sub(r"\s+", " ", done.stdout.replace("\\\n", ""))

    plain = command()
    assert "--ssl" not in plain
    tls = command("TLS_CERT=c.pem", "TLS_KEY=k.pem")
    assert "--ssl-certfile 'c.pem' --ssl-keyfile 'k.pem'" in tls and "--ssl-ca-certs" not in tls
    both = command("TLS_CERT=c.pem", "TLS_KEY=k.pem", "TLS_CLIENT_CA=ca.pem")
    assert "--ssl-ca-certs 'ca.pem' --ssl-cert-reqs 2" in both
