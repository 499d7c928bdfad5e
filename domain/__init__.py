"""What device and server agree on: records, rules and wire format. Pure code: no file, socket, thread or clock is touched here.

Nothing of ours is imported from outside this package. The only third-party code is msgspec and zstandard, which turn values
into bytes and back without effects (docs/decisions/0002).
"""
