"""Release 0.4: where a question comes from stands in `source`."""


def migrate(migrator, database, *, fake=False):
    migrator.sql("CREATE TABLE questions (id bigint PRIMARY KEY, source text)")


def rollback(migrator, database, *, fake=False):
    migrator.sql("DROP TABLE questions")
