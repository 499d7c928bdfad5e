"""Certificates for tests: an authority, servers that it vouches for, and servers that nobody does."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domain.server_key import key_name

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Made:
    """A certificate in a file with its key, and the name of that key."""

    path: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def key_name(self) -> str:
        return key_name(self.certificate.public_bytes(serialization.Encoding.DER))


def make(
    path: Path,
    *,
    issuer: Made | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
    from_days: int = -1,
    to_days: int = 30,
    host: str = "127.0.0.1",
) -> Made:
    """A certificate for `host`, signed by `issuer` or by itself, valid between two moments counted from today; written to `path` with its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + from_days * DAY)
        .not_valid_after(now + to_days * DAY)
        .add_extension(x509.SubjectAlternativeName([_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(authority, critical=False)
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = certificate.public_bytes(serialization.Encoding.PEM) + (
        issuer.certificate.public_bytes(serialization.Encoding.PEM) if issuer else b""
    )
    partial = path.with_suffix(".partial")
    partial.write_bytes(private + chain)
    partial.rename(path)
    return Made(path, key, certificate)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
