"""What a database's schema is, so that two of them can be compared.

    description  tables, columns, constraints, indexes, triggers, routines as values; the differences between two schemas (pure)
    sqltext      SQL text in one canonical form (pure)
    sqlite       reads the schema of a SQLite file
    postgres     reads the schema of a PostgreSQL database
    models       creates a schema from peewee models that are named by module and attribute

One comparison serves all: a database against the files, the files against the models, a database made by `init_db.py` against a migrated
one. Each side is made in a database of the same engine and read back from its catalogue, so that the engine itself brings both into one
form.
"""
