-- Statements of activity.py.

-- name: add_rate
INSERT INTO arrival_rate (project, at, accepted, refused, sampled) VALUES (:project, :at, :accepted, :refused, :sampled)
ON CONFLICT DO UPDATE SET
  accepted = accepted + excluded.accepted, refused = refused + excluded.refused, sampled = sampled + excluded.sampled;

-- name: add_refusal
INSERT INTO arrival_refusal (project, at, kind, attribute, count, last)
VALUES (:project, :minute, :kind, :attribute, :count, :at)
ON CONFLICT DO UPDATE SET count = count + excluded.count, last = max(last, excluded.last);

-- name: add_last_write
INSERT INTO last_write (project, attribute, at) VALUES (:project, :attribute, :at)
ON CONFLICT DO UPDATE SET at = max(at, excluded.at);

-- name: add_key_use
INSERT INTO key_use (project, name, at) VALUES (:project, :name, :at)
ON CONFLICT DO UPDATE SET at = max(at, excluded.at);

-- name: add_sample
-- Unless its user has been erased.
INSERT INTO arrival (project, refused, at, cuid, document)
SELECT :project, :refused, :at, :cuid, :document
WHERE NOT EXISTS (SELECT 1 FROM erased WHERE project = :project AND cuid = :cuid);

-- name: samples
-- The newest samples. from_refused and to_refused are 0 and 1 for all; both 1 for refused ones, both 0 for the others.
SELECT id, document FROM arrival
WHERE project = :project AND refused IN (:from_refused, :to_refused) AND id > :after
ORDER BY id DESC LIMIT :limit;

-- name: rates
-- Numbers of requests since a time, by steps.
SELECT :since + (at - :since) / :step * :step, sum(accepted), sum(refused), sum(sampled)
FROM arrival_rate WHERE project = :project AND at >= :since
GROUP BY 1 ORDER BY 1;

-- name: refusals
SELECT kind, attribute, sum(count), max(last) FROM arrival_refusal
WHERE project = :project AND at >= :minute GROUP BY 1, 2;

-- name: expire_counts
DELETE FROM arrival_rate WHERE project = :project AND at < :before;
DELETE FROM arrival_refusal WHERE project = :project AND at < :minute;

-- name: expire_samples
-- Samples that are too old, and all but the newest.
DELETE FROM arrival
WHERE project = :project AND refused = :refused AND (at < :before OR id <= (
  SELECT id FROM arrival WHERE project = :project AND refused = :refused ORDER BY id DESC LIMIT 1 OFFSET :kept));
