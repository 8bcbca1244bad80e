-- A SQLite store of version 5, made and filled by the usertable of that time.

PRAGMA page_size = 2048;
PRAGMA application_id = 1970561585;
PRAGMA user_version = 5;
BEGIN TRANSACTION;
CREATE TABLE arrival (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  project  INTEGER NOT NULL,
  refused  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  cuid     INTEGER,
  document TEXT NOT NULL
) STRICT;
CREATE TABLE arrival_rate (
  project  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  accepted INTEGER NOT NULL,
  refused  INTEGER NOT NULL,
  sampled  INTEGER NOT NULL,
  PRIMARY KEY (project, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE arrival_refusal (
  project   INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  kind      TEXT NOT NULL,
  attribute TEXT NOT NULL,
  count     INTEGER NOT NULL,
  last      INTEGER NOT NULL,
  PRIMARY KEY (project, at, kind, attribute)
) STRICT, WITHOUT ROWID;
CREATE TABLE epoch (value INTEGER NOT NULL) STRICT;
INSERT INTO "epoch" VALUES(28);
CREATE TABLE erased (
  project INTEGER NOT NULL,
  cuid    INTEGER NOT NULL,
  PRIMARY KEY (project, cuid)
) STRICT, WITHOUT ROWID;
INSERT INTO "erased" VALUES(1,10000003);
CREATE TABLE identifier_value (
  project    INTEGER NOT NULL,
  identifier TEXT NOT NULL,
  value      TEXT NOT NULL,
  cuid       INTEGER NOT NULL,
  PRIMARY KEY (project, identifier, value)
) STRICT, WITHOUT ROWID;
INSERT INTO "identifier_value" VALUES(1,'phone','a',10000001);
INSERT INTO "identifier_value" VALUES(1,'phone','b',10000002);
INSERT INTO "identifier_value" VALUES(2,'phone','a',10000001);
CREATE TABLE import_job (
  project INTEGER NOT NULL,
  name    TEXT NOT NULL,
  state   TEXT NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE last_write (
  project   INTEGER NOT NULL,
  attribute TEXT NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (project, attribute)
) STRICT, WITHOUT ROWID;
CREATE TABLE project (
  number    INTEGER PRIMARY KEY AUTOINCREMENT,
  id        TEXT NOT NULL UNIQUE,
  version   INTEGER NOT NULL,
  next_cuid INTEGER NOT NULL,
  document  TEXT NOT NULL
) STRICT;
INSERT INTO "project" VALUES(1,'one',14,10000004,'{"name":"one","secret_salt":"EI/RgqXZuH617StudBRV0g==","secret_hash":"GACmyQQqrOfLKqeIWPiY4iRocnKxspZHt4oQZGds1Jw=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}');
INSERT INTO "project" VALUES(2,'two',14,10000002,'{"name":"two","secret_salt":"2Ir/R/SwkxVDwaU1pJAfNQ==","secret_hash":"VOCMeGIYmUezVxbDgpNbknszuHRO9Qon7IxWYq/dZtI=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}');
CREATE TABLE receipt (
  id          INTEGER PRIMARY KEY,
  project     INTEGER NOT NULL,
  key         TEXT NOT NULL,
  cuid        INTEGER NOT NULL,
  fingerprint BLOB NOT NULL,
  written     TEXT NOT NULL,
  personal    INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  UNIQUE (project, key)
) STRICT;
INSERT INTO "receipt" VALUES(1,1,'key a 1',10000001,X'','[2,{"user_string_overwrite":"applied","user_number_accumulate":"applied","user_list_append":"applied","user_bool_once":"applied","user_datetime_overwrite":"applied","user_number_overwrite":"applied"},null]',0,1700000000000);
INSERT INTO "receipt" VALUES(2,1,'key a 2',10000001,X'','[3,{"user_number_accumulate":"applied","user_list_append":"applied"},{"user_string_overwrite":"a","user_number_accumulate":3.5,"user_list_append":["x","y","z"],"user_bool_once":true,"user_datetime_overwrite":1709179200000,"user_number_overwrite":12345678901234567890.0123456789}]',1,1700000000010);
CREATE TABLE reported (
  project   INTEGER NOT NULL,
  attribute TEXT NOT NULL,
  PRIMARY KEY (project, attribute)
) STRICT, WITHOUT ROWID;
INSERT INTO "reported" VALUES(1,'user_bool_once');
INSERT INTO "reported" VALUES(1,'user_datetime_overwrite');
INSERT INTO "reported" VALUES(1,'user_list_append');
INSERT INTO "reported" VALUES(1,'user_number_accumulate');
INSERT INTO "reported" VALUES(1,'user_number_overwrite');
INSERT INTO "reported" VALUES(1,'user_string_once');
INSERT INTO "reported" VALUES(1,'user_string_overwrite');
INSERT INTO "reported" VALUES(2,'user_number_accumulate');
INSERT INTO "reported" VALUES(2,'user_string_overwrite');
CREATE TABLE schema_change (
  id      INTEGER PRIMARY KEY,
  project INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  who     TEXT NOT NULL,
  what    TEXT NOT NULL
) STRICT;
INSERT INTO "schema_change" VALUES(1,1,1700000000000,'test','[{"kind":"create project","subject":"","before":{},"after":{"name":"one","timezone":"Asia/Shanghai","qps":100}}]');
INSERT INTO "schema_change" VALUES(2,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_number_overwrite","before":{},"after":{"type":"NUMBER","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(3,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_number_once","before":{},"after":{"type":"NUMBER","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(4,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_number_accumulate","before":{},"after":{"type":"NUMBER","rule":"accumulate"}}]');
INSERT INTO "schema_change" VALUES(5,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_string_overwrite","before":{},"after":{"type":"STRING","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(6,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_string_once","before":{},"after":{"type":"STRING","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(7,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_bool_overwrite","before":{},"after":{"type":"BOOL","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(8,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_bool_once","before":{},"after":{"type":"BOOL","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(9,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_datetime_overwrite","before":{},"after":{"type":"DATETIME","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(10,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_datetime_once","before":{},"after":{"type":"DATETIME","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(11,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_list_overwrite","before":{},"after":{"type":"LIST","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(12,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_list_once","before":{},"after":{"type":"LIST","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(13,1,1700000000000,'test','[{"kind":"declare attribute","subject":"user_list_append","before":{},"after":{"type":"LIST","rule":"append"}}]');
INSERT INTO "schema_change" VALUES(14,1,1700000000000,'test','[{"kind":"declare identifier","subject":"phone","before":{},"after":{"unique":true}}]');
INSERT INTO "schema_change" VALUES(15,2,1700000000000,'test','[{"kind":"create project","subject":"","before":{},"after":{"name":"two","timezone":"Asia/Shanghai","qps":100}}]');
INSERT INTO "schema_change" VALUES(16,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_number_overwrite","before":{},"after":{"type":"NUMBER","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(17,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_number_once","before":{},"after":{"type":"NUMBER","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(18,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_number_accumulate","before":{},"after":{"type":"NUMBER","rule":"accumulate"}}]');
INSERT INTO "schema_change" VALUES(19,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_string_overwrite","before":{},"after":{"type":"STRING","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(20,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_string_once","before":{},"after":{"type":"STRING","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(21,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_bool_overwrite","before":{},"after":{"type":"BOOL","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(22,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_bool_once","before":{},"after":{"type":"BOOL","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(23,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_datetime_overwrite","before":{},"after":{"type":"DATETIME","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(24,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_datetime_once","before":{},"after":{"type":"DATETIME","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(25,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_list_overwrite","before":{},"after":{"type":"LIST","rule":"overwrite"}}]');
INSERT INTO "schema_change" VALUES(26,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_list_once","before":{},"after":{"type":"LIST","rule":"once"}}]');
INSERT INTO "schema_change" VALUES(27,2,1700000000000,'test','[{"kind":"declare attribute","subject":"user_list_append","before":{},"after":{"type":"LIST","rule":"append"}}]');
INSERT INTO "schema_change" VALUES(28,2,1700000000000,'test','[{"kind":"declare identifier","subject":"phone","before":{},"after":{"unique":true}}]');
CREATE TABLE user_1 (
  cuid INTEGER PRIMARY KEY, version INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, attributes TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT;
INSERT INTO "user_1" VALUES(10000001,3,1700000000000,1700000000010,'{"user_string_overwrite":"a","user_number_accumulate":3.5,"user_list_append":["x","y","z"],"user_bool_once":true,"user_datetime_overwrite":1709179200000,"user_number_overwrite":12345678901234567890.0123456789}','{"":1700000000000,"user_number_accumulate":1700000000010,"user_list_append":1700000000010}');
INSERT INTO "user_1" VALUES(10000002,2,1700000000000,1700000000000,'{"user_string_once":"b"}','{"":1700000000000}');
CREATE TABLE user_2 (
  cuid INTEGER PRIMARY KEY, version INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, attributes TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT;
INSERT INTO "user_2" VALUES(10000001,2,1700000000000,1700000000000,'{"user_string_overwrite":"a","user_number_accumulate":1}','{"":1700000000000}');
CREATE INDEX identifier_value_by_user ON identifier_value (project, cuid);
CREATE INDEX receipt_personal ON receipt (project, cuid) WHERE personal;
CREATE INDEX schema_change_by_project ON schema_change (project, id);
CREATE INDEX arrival_by_project ON arrival (project, refused, id);
CREATE INDEX arrival_by_user ON arrival (project, cuid) WHERE cuid IS NOT NULL;
CREATE INDEX receipt_at ON receipt (at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('project',2);
COMMIT;
