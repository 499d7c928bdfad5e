"""The devices of a school: enrolled, known by a token, replaced, revoked."""
