-- The gates in that wall: what may be asked before it is known which school a request is about. Each answers about the one row that the caller
-- has the secret of, and makes the transaction one about that row's school; the two counts are all that is told of other schools.
CREATE FUNCTION device_by_token(wanted bytea, locked boolean) RETURNS SETOF devices LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
    device devices;
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    IF locked THEN
        SELECT * INTO device FROM devices WHERE token_hash = wanted OR next_token_hash = wanted FOR UPDATE;
    ELSE
        SELECT * INTO device FROM devices WHERE token_hash = wanted OR next_token_hash = wanted;
    END IF;
    PERFORM set_config('carrel.every_school', before, true);
    IF device.id IS NOT NULL THEN
        PERFORM set_config('carrel.school_id', device.school_id::text, true);
        RETURN NEXT device;
    END IF;
END
$gate$;
CREATE FUNCTION session_by_token(wanted bytea) RETURNS SETOF user_sessions LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
    user_session user_sessions;
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    SELECT * INTO user_session FROM user_sessions WHERE token_hash = wanted;
    PERFORM set_config('carrel.every_school', before, true);
    IF user_session.school_id IS NOT NULL THEN
        PERFORM set_config('carrel.school_id', user_session.school_id::text, true);
        RETURN NEXT user_session;
    END IF;
END
$gate$;
CREATE FUNCTION redeem_code(wanted bytea, now_ms bigint) RETURNS SETOF enrolment_codes LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
    code enrolment_codes;
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    UPDATE enrolment_codes SET uses_left = uses_left - 1
     WHERE code_hash = wanted AND uses_left > 0 AND expires_at_ms > now_ms RETURNING * INTO code;
    PERFORM set_config('carrel.every_school', before, true);
    IF code.id IS NOT NULL THEN
        PERFORM set_config('carrel.school_id', code.school_id::text, true);
        RETURN NEXT code;
    END IF;
END
$gate$;
CREATE FUNCTION school_meant(wanted text) RETURNS uuid LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
    school uuid;
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    SELECT id INTO school FROM schools
     WHERE wanted IN (name, id::text, replace(id::text, '-', '')) OR wanted IS NULL AND (SELECT count(*) FROM schools) = 1 LIMIT 1;
    PERFORM set_config('carrel.every_school', before, true);
    RETURN school;
END
$gate$;
CREATE FUNCTION devices_at_work(seen_after_ms bigint, now_ms bigint, OUT seen bigint, OUT first_syncs bigint) LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    SELECT count(*) FILTER (WHERE last_seen_ms > seen_after_ms), count(*) FILTER (WHERE first_sync_until_ms > now_ms)
      INTO seen, first_syncs FROM devices;
    PERFORM set_config('carrel.every_school', before, true);
END
$gate$;
