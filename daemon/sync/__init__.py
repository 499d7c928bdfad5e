"""The device's side of the sync protocol: `push` and `pull` are one step each, `round` decides what to do and when to try again."""
