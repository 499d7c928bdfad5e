"""Release 0.6, migrate: the rows from before 0.5 get their `origin`, a thousand at a time, so that no row is locked for long."""

ATOMIC = False

_FILL = """
DO $fill$
BEGIN
    LOOP
        UPDATE questions SET origin = source
         WHERE id IN (SELECT id FROM questions WHERE origin IS NULL AND source IS NOT NULL ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED);
        EXIT WHEN NOT FOUND;
        COMMIT;
    END LOOP;
END
$fill$
"""


def migrate(migrator, database, *, fake=False):
    migrator.sql(_FILL)


def rollback(migrator, database, *, fake=False):
    """What was filled in is right under 0.5 too."""
