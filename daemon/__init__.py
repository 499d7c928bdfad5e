"""The device: one background process that owns one SQLite file, serves learning apps on localhost and keeps the school's server up to date.

    config, live_config   settings, and their reload while running
    database, models      the SQLite file: one writer, query-only readers
    records, outbox       local changes, each with its operation
    inbox, importer       what comes from the server, and what comes as a file
    identity, gateway     who this device is; the only module that talks to the network
    sync                  one round: push, pull, verify
    app, routes, server   the localhost API
    jobs, watcher         when things are done: by the clock, and because a file changed
    service, cli          start and stop order; `carrel`

Nothing is imported here, so that `carrel --help` answers at once.
"""
