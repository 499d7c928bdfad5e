"""Release 0.7, contract: `source` goes."""

ACCEPTED = {
    "ban-drop-column": "0.6 neither reads nor writes questions.source",
    "ban-drop-function": "only the trigger called it",
}


def migrate(migrator, database, *, fake=False):
    migrator.sql("DROP TRIGGER questions_alike ON questions")
    migrator.sql("DROP FUNCTION keep_origin_and_source_alike")
    migrator.sql("ALTER TABLE questions DROP COLUMN source")


IRREVERSIBLE = "0.6 works on this schema too; what stood in source stands in origin"
