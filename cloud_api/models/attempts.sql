-- Attempts refer to rows of their school: checked once for a statement, not once for a row (decision 0006).
CREATE FUNCTION check_attempt_references() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $check$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT DISTINCT school_id, question_id FROM written) AS w
         WHERE NOT EXISTS (SELECT FROM questions q WHERE q.school_id = w.school_id AND q.id = w.question_id)
    ) OR EXISTS (
        SELECT FROM (SELECT DISTINCT school_id, student_id FROM written) AS w
         WHERE NOT EXISTS (SELECT FROM users u WHERE u.school_id = w.school_id AND u.id = w.student_id)
    ) THEN
        RAISE foreign_key_violation USING MESSAGE = 'an attempt refers to a question or student that does not exist';
    END IF;
    RETURN NULL;
END
$check$;

CREATE TRIGGER attempts_refer_to_rows AFTER INSERT ON question_attempts
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION check_attempt_references();
