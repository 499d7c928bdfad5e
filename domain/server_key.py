"""The name of a server's key, by which a device knows its school's server whatever its certificate says.

It is the beginning of SHA-256 over the certificate's SubjectPublicKeyInfo (RFC 7469, section 2.4), 130 bits in Crockford's base32, so that it can be
read out and typed. A certificate that is renewed with the same key keeps its name; nobody else can have a certificate of that key and prove it.
"""

from __future__ import annotations

import hashlib
import re

# Crockford's base32, as in enrolment codes (crockford.com/base32.html).
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MISREAD = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None})
NAME_LENGTH = 26
GROUP = 4
_NAME = re.compile(rf"[{_ALPHABET}]{{{NAME_LENGTH}}}")
_BITS = 5
# Separates what is named from the name of its server's key: CODE#NAME, https://carrel.school.example#NAME.
MARK = "#"
# Tags of ASN.1 (ITU-T X.690): SEQUENCE, and the version that a certificate may begin with.
_SEQUENCE, _VERSION = 0x30, 0xA0
# serialNumber, signature, issuer, validity, subject: what stands before subjectPublicKeyInfo (RFC 5280, section 4.1).
_BEFORE_KEY = 5


def key_name(certificate: bytes) -> str:
    """The name of the key in a certificate (DER). Raises ValueError for bytes that are none."""
    digest = int.from_bytes(hashlib.sha256(_public_key_info(certificate)).digest(), "big") >> (256 - NAME_LENGTH * _BITS)
    return "".join(_ALPHABET[digest >> (_BITS * at) & 31] for at in reversed(range(NAME_LENGTH)))


def read_name(text: str) -> str:
    """The name as somebody typed it: case, dashes and spaces do not count, nor O for 0 and I or L for 1. Raises ValueError."""
    plain = text.upper().translate(_MISREAD)
    if not _NAME.fullmatch(plain):
        raise ValueError("not the name of a key")
    return plain


def grouped(name: str) -> str:
    """The name as people read it."""
    return "-".join(name[at : at + GROUP] for at in range(0, len(name), GROUP))


def _public_key_info(certificate: bytes) -> bytes:
    body, _ = _content(certificate, 0, _SEQUENCE)
    signed, _ = _content(certificate, body, _SEQUENCE)
    at = signed
    if certificate[at] == _VERSION:
        at = _end(certificate, at)
    for _ in range(_BEFORE_KEY):
        at = _end(certificate, at)
    if certificate[at : at + 1] != bytes([_SEQUENCE]):
        raise ValueError("not a certificate")
    return certificate[at : _end(certificate, at)]


def _content(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends. Raises ValueError."""
    if len(data) < at + 2 or data[at] != tag:
        raise ValueError("not a certificate")
    return _extent(data, at)


def _end(data: bytes, at: int) -> int:
    return _extent(data, at)[1]


def _extent(data: bytes, at: int) -> tuple[int, int]:
    if len(data) < at + 2:
        raise ValueError("not a certificate")
    length, begin = data[at + 1], at + 2
    if length >= 0x80:
        count = length & 0x7F
        length, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    if begin + length > len(data):
        raise ValueError("not a certificate")
    return begin, begin + length
