-- The numbers of what came in, from a sequence that is logged. One that is not logged can be unreadable on a standby that
-- is promoted, and begins anew after a crash, so that whoever reads on from a number would miss what comes.
ALTER TABLE usertable.arrival ALTER COLUMN id DROP IDENTITY;
CREATE SEQUENCE usertable.arrival_number;
SELECT setval('usertable.arrival_number', coalesce(max(id), 0) + 1, false) FROM usertable.arrival;
ALTER TABLE usertable.arrival ALTER COLUMN id SET DEFAULT nextval('usertable.arrival_number');
