-- The wall between schools (docs/security.md): a row is there for a transaction that says which school it is about, and is that of the row;
-- or that it is about every school, as administrators' commands and migrations do. It holds for the owner of the tables as well.
DO $wall$
DECLARE
    walled record;
BEGIN
    FOR walled IN
        SELECT c.oid::regclass AS name, a.attname AS key
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = current_schema()::regnamespace AND NOT a.attisdropped
           AND (a.attname = 'school_id' OR c.relname = 'schools' AND a.attname = 'id')
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', walled.name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', walled.name);
        EXECUTE format(
            'CREATE POLICY own_school ON %s USING (%I = (SELECT nullif(current_setting(''carrel.school_id'', true), '''')::uuid)'
            ' OR (SELECT current_setting(''carrel.every_school'', true) = ''on''))',
            walled.name, walled.key
        );
    END LOOP;
END
$wall$;
