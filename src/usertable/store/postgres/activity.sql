-- Statements of activity.py.

-- name: lock_counters
-- Prevents users from being erased meanwhile.
SELECT 1 FROM usertable.cuid_counter WHERE project = ANY(%(projects)s::bigint[]) ORDER BY project FOR SHARE;

-- name: add_rate
INSERT INTO usertable.arrival_rate AS r (project, at, accepted, refused, sampled)
VALUES (%(project)s, %(at)s, %(accepted)s, %(refused)s, %(sampled)s)
ON CONFLICT (project, at) DO UPDATE SET
  accepted = r.accepted + excluded.accepted,
  refused = r.refused + excluded.refused,
  sampled = r.sampled + excluded.sampled;

-- name: add_refusal
INSERT INTO usertable.arrival_refusal AS r (project, at, kind, attribute, count, last)
VALUES (%(project)s, %(minute)s, %(kind)s, %(attribute)s, %(count)s, %(at)s)
ON CONFLICT (project, at, kind, attribute) DO UPDATE SET
  count = r.count + excluded.count, last = greatest(r.last, excluded.last);

-- name: add_last_write
INSERT INTO usertable.last_write AS l (project, attribute, at) VALUES (%(project)s, %(attribute)s, %(at)s)
ON CONFLICT (project, attribute) DO UPDATE SET at = greatest(l.at, excluded.at);

-- name: add_key_use
INSERT INTO usertable.key_use AS u (project, name, at) VALUES (%(project)s, %(name)s, %(at)s)
ON CONFLICT (project, name) DO UPDATE SET at = greatest(u.at, excluded.at);

-- name: add_sample
-- Unless its user has been erased.
INSERT INTO usertable.arrival (project, refused, at, cuid, document)
SELECT %(project)s, %(refused)s, %(at)s, %(cuid)s::bigint, %(document)s
WHERE NOT EXISTS (SELECT 1 FROM usertable.erased WHERE project = %(project)s AND cuid = %(cuid)s::bigint);

-- name: samples
-- The newest samples; refused is an array of one value or both.
SELECT id, document FROM usertable.arrival
WHERE project = %(project)s AND refused = ANY(%(refused)s) AND id > %(after)s
ORDER BY id DESC LIMIT %(limit)s;

-- name: rates
-- Numbers of requests since a time, by steps.
SELECT
  (%(since)s + (at - %(since)s) / %(step)s * %(step)s)::bigint AS step,
  sum(accepted)::bigint, sum(refused)::bigint, sum(sampled)::bigint
FROM usertable.arrival_rate WHERE project = %(project)s AND at >= %(since)s
GROUP BY 1 ORDER BY 1;

-- name: refusals
SELECT kind, attribute, sum(count)::bigint, max(last) FROM usertable.arrival_refusal
WHERE project = %(project)s AND at >= %(minute)s GROUP BY 1, 2;

-- name: expire_samples
-- Samples that are too old, and all but the newest.
DELETE FROM usertable.arrival WHERE id IN (
  SELECT id
  FROM (
    SELECT id, at, row_number() OVER (PARTITION BY project, refused ORDER BY id DESC) AS rank FROM usertable.arrival
  ) kept
  WHERE rank > %(kept)s OR at < %(before)s
);
