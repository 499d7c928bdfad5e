"""What device and server agree on: records, rules and wire format. Code without effects, but for two doors: `clock.SystemClock` asks the machine
for the time, and `settings.load` reads a configuration file.

Nothing of ours is imported from outside this package. The only third-party code is msgspec and zstandard, which turn values
into bytes and back without effects (docs/decisions/0002).
"""
