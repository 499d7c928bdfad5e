"""Carrel as a service of systemd: installed from a wheel into an environment of its own, upgraded in place, and taken away again."""
