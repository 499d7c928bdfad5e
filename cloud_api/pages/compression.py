"""Answers compressed with gzip, for those that are large and reflect nothing.

BREACH (Gluck, Harris and Prado 2013): who can put text into a page and watch the length of its encrypted answers finds a secret of the page out, as
text that repeats the secret compresses better. So only answers come here that hold nothing of the request but ids and choices from closed lists; and the
one secret of a page, its CSRF token, stands in a part of its own that nothing before or after refers to: the length says nothing about it, whatever
students have written into the rest.
"""

from __future__ import annotations

import zlib

from flask import Response, request

# Below this one packet carries it anyway.
COMPRESS_FROM_BYTES = 1_400
# Of zlib: nine tenths of what the highest level saves, in a third of the time.
_LEVEL = 5
# Of zlib's window bits: a gzip header and its checksum around the data.
_AS_GZIP = 16 + zlib.MAX_WBITS


def compressed(response: Response, secret: str = "") -> Response:
    """The response, compressed if the client takes that; `secret` is kept apart wherever it stands. Not for answers that repeat text of the request."""
    response.vary.add("Accept-Encoding")
    plain = response.get_data()
    if len(plain) >= COMPRESS_FROM_BYTES and request.accept_encodings.quality("gzip") > 0:
        response.set_data(gzipped(plain, secret.encode()))
        response.content_encoding = "gzip"
    return response


def gzipped(plain: bytes, secret: bytes = b"") -> bytes:
    """One gzip stream. Where `secret` begins and ends the compressor forgets all that came before, so that no reference crosses."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _AS_GZIP)
    parts = []
    for part in _apart(plain, secret):
        parts += [compressor.compress(part), compressor.flush(zlib.Z_FULL_FLUSH)]
    return b"".join([*parts, compressor.flush()])


def _apart(plain: bytes, secret: bytes) -> list[bytes]:
    """The text cut before and after each place of the secret."""
    if not secret:
        return [plain]
    first, *rest = plain.split(secret)
    return [first, *(part for after in rest for part in (secret, after))]
