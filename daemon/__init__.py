"""The device: one background process that owns one SQLite file, serves learning apps on localhost and keeps the school's server up to date.

    cli, commands, service, process   `carrel`; start and stop order; the process and its machine
    api, access, pages                the localhost API, who may use it, the page for people
    database, models                  the SQLite file: one writer, query-only readers
    records, queue                    local changes, each with its operation
    inbox, importer                   what comes from the server, and what comes as a file
    learning                          mastery, plans, the next question
    identity, gateway, tls            who this device is; the only module that talks to the network
    sync, bundles                     push, pull, verify; the same by stick
    erasure                           what goes on the school's word
    recovery, backups, doctor         the file damaged, the file copied, and what is wrong
    jobs, schedule, watcher           when things are done: by the clock, and because a file changed

Nothing is imported here, so that `carrel --help` answers at once.
"""
