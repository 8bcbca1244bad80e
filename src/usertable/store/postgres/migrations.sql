-- Turning what servers of an older version recorded into entries of the audit log.

-- name: has_changes
-- Whether there is any.
SELECT EXISTS (SELECT 1 FROM usertable.schema_change);

-- name: projects_with_changes
-- Projects that it is about.
SELECT DISTINCT project FROM usertable.schema_change ORDER BY project;

-- name: adopt_changes
-- Each change of an edit is an entry after those that the project's log has. Older ones are a sentence, not JSON.
INSERT INTO usertable.audit (project, number, first, at, actor, kind, subject, facts, request, address)
SELECT project, entry, min(entry) OVER (PARTITION BY number), at, who, kind, subject, facts, '', ''
FROM (
  SELECT
    c.project, last.number + row_number() OVER (ORDER BY c.number, e.place) AS entry, c.number, c.at, c.who,
    CASE json_typeof(e.event) WHEN 'object' THEN e.event ->> 'kind' ELSE '' END AS kind,
    CASE json_typeof(e.event) WHEN 'object' THEN coalesce(e.event ->> 'subject', '') ELSE '' END AS subject,
    CASE json_typeof(e.event)
      WHEN 'object' THEN '{"before":' || coalesce(e.event -> 'before', '{}') || ',"after":' || coalesce(e.event -> 'after', '{}') || '}'
      ELSE e.event::text
    END AS facts
  FROM usertable.schema_change c
  CROSS JOIN (SELECT coalesce(max(number), 0) AS number FROM usertable.audit WHERE project = %(project)s) last
  CROSS JOIN LATERAL json_array_elements(
    CASE WHEN left(c.what, 1) = '[' THEN c.what::json ELSE json_build_array(c.what) END
  ) WITH ORDINALITY AS e (event, place)
  WHERE c.project = %(project)s
) events;
