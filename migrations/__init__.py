"""The schema of both databases: numbered migration files in `device` and `cloud`, and the guarded runner that applies them.

    files       the migration files shipped, with checksums
    history     what is applied against what is shipped; which files a target stands for (pure)
    current     the cheap question "is this device's database up to date?", without peewee
    lock        one migrating process at a time
    engines     SQLite and PostgreSQL: opening, locking, transactions, checks
    router      peewee-migrate, with its traps closed
    execution   running files one after the other
    protection  the way back around them (backup, dump, begun)
    runner      the migrations of one database; `open_migrations`
    schema      a schema as a value: read, made from models, compared
    scratch     empty databases to try things in
    check       drift
    creation    new migration files, drafted from the models (draft, template)
    preview     the SQL that would run
    waiting     telling whoever waits
    cli         `carrel-migrate` (commands)
    beginning   the first half second of every command

Nothing is imported here, so that `migrations.current` stays cheap.
"""
