"""Release 0.5, expand: `origin` beside `source`. A trigger keeps both alike, whichever a program writes."""

_KEEP_ALIKE = """
CREATE FUNCTION keep_origin_and_source_alike() RETURNS trigger LANGUAGE plpgsql AS $alike$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.origin IS NOT DISTINCT FROM OLD.origin THEN
        NEW.origin := NEW.source;
    ELSIF TG_OP = 'INSERT' AND NEW.origin IS NULL THEN
        NEW.origin := NEW.source;
    ELSE
        NEW.source := NEW.origin;
    END IF;
    RETURN NEW;
END
$alike$
"""


def migrate(migrator, database, *, fake=False):
    migrator.sql("ALTER TABLE questions ADD COLUMN origin text")
    migrator.sql(_KEEP_ALIKE)
    migrator.sql(
        "CREATE TRIGGER questions_alike BEFORE INSERT OR UPDATE ON questions FOR EACH ROW EXECUTE FUNCTION keep_origin_and_source_alike()"
    )


def rollback(migrator, database, *, fake=False):
    migrator.sql("DROP TRIGGER questions_alike ON questions")
    migrator.sql("DROP FUNCTION keep_origin_and_source_alike")
    migrator.sql("ALTER TABLE questions DROP COLUMN origin")
