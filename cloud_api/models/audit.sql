-- Nobody changes what was written down; entries go only when their time is over, by a transaction that says so.
CREATE FUNCTION keep_audit_log() RETURNS trigger LANGUAGE plpgsql AS $keep$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('carrel.audit_retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE insufficient_privilege USING MESSAGE = 'the audit log is only ever added to';
END
$keep$;
CREATE TRIGGER audit_log_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION keep_audit_log();
