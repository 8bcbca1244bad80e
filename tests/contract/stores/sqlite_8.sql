-- A SQLite store of version 8, made and filled by the usertable of that time.

PRAGMA page_size = 2048;
PRAGMA application_id = 1970561585;
PRAGMA user_version = 8;
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
CREATE TABLE audit (
  project INTEGER NOT NULL,
  number  INTEGER NOT NULL,
  first   INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  facts   TEXT NOT NULL,
  request TEXT NOT NULL,
  address TEXT NOT NULL,
  PRIMARY KEY (project, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "audit" VALUES(0,1,1,1700000000000,'cli:test','create project','one','{"after":{"name":"one","timezone":"Asia/Shanghai","qps":100}}','','');
INSERT INTO "audit" VALUES(0,2,2,1700000000000,'cli:test','create project','two','{"after":{"name":"two","timezone":"Asia/Shanghai","qps":100}}','','');
INSERT INTO "audit" VALUES(0,3,3,1700000000010,'cli:test','create person','ann@example.com','{"after":{"name":"Ann","admin":true,"disabled":false,"roles":[]}}','','');
INSERT INTO "audit" VALUES(0,4,4,1700000000010,'cli:test','create person','bo@example.com','{"after":{"name":"Bo","admin":false,"disabled":false,"roles":["two=editor"]}}','','');
INSERT INTO "audit" VALUES(1,1,1,1700000000000,'cli:test','create project','','{"after":{"name":"one","timezone":"Asia/Shanghai","qps":100}}','','');
INSERT INTO "audit" VALUES(1,2,2,1700000000000,'cli:test','declare attribute','user_number_overwrite','{"after":{"type":"NUMBER","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,3,2,1700000000000,'cli:test','declare attribute','user_number_once','{"after":{"type":"NUMBER","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,4,2,1700000000000,'cli:test','declare attribute','user_number_accumulate','{"after":{"type":"NUMBER","rule":"accumulate"}}','','');
INSERT INTO "audit" VALUES(1,5,2,1700000000000,'cli:test','declare attribute','user_string_overwrite','{"after":{"type":"STRING","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,6,2,1700000000000,'cli:test','declare attribute','user_string_once','{"after":{"type":"STRING","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,7,2,1700000000000,'cli:test','declare attribute','user_bool_overwrite','{"after":{"type":"BOOL","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,8,2,1700000000000,'cli:test','declare attribute','user_bool_once','{"after":{"type":"BOOL","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,9,2,1700000000000,'cli:test','declare attribute','user_datetime_overwrite','{"after":{"type":"DATETIME","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,10,2,1700000000000,'cli:test','declare attribute','user_datetime_once','{"after":{"type":"DATETIME","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,11,2,1700000000000,'cli:test','declare attribute','user_list_overwrite','{"after":{"type":"LIST","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(1,12,2,1700000000000,'cli:test','declare attribute','user_list_once','{"after":{"type":"LIST","rule":"once"}}','','');
INSERT INTO "audit" VALUES(1,13,2,1700000000000,'cli:test','declare attribute','user_list_append','{"after":{"type":"LIST","rule":"append"}}','','');
INSERT INTO "audit" VALUES(1,14,2,1700000000000,'cli:test','declare identifier','phone','{"after":{"unique":true}}','','');
INSERT INTO "audit" VALUES(1,15,15,0,'cli:test','erase user','10000003','{}','','');
INSERT INTO "audit" VALUES(2,1,1,1700000000000,'cli:test','create project','','{"after":{"name":"two","timezone":"Asia/Shanghai","qps":100}}','','');
INSERT INTO "audit" VALUES(2,2,2,1700000000000,'cli:test','declare attribute','user_number_overwrite','{"after":{"type":"NUMBER","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,3,2,1700000000000,'cli:test','declare attribute','user_number_once','{"after":{"type":"NUMBER","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,4,2,1700000000000,'cli:test','declare attribute','user_number_accumulate','{"after":{"type":"NUMBER","rule":"accumulate"}}','','');
INSERT INTO "audit" VALUES(2,5,2,1700000000000,'cli:test','declare attribute','user_string_overwrite','{"after":{"type":"STRING","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,6,2,1700000000000,'cli:test','declare attribute','user_string_once','{"after":{"type":"STRING","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,7,2,1700000000000,'cli:test','declare attribute','user_bool_overwrite','{"after":{"type":"BOOL","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,8,2,1700000000000,'cli:test','declare attribute','user_bool_once','{"after":{"type":"BOOL","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,9,2,1700000000000,'cli:test','declare attribute','user_datetime_overwrite','{"after":{"type":"DATETIME","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,10,2,1700000000000,'cli:test','declare attribute','user_datetime_once','{"after":{"type":"DATETIME","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,11,2,1700000000000,'cli:test','declare attribute','user_list_overwrite','{"after":{"type":"LIST","rule":"overwrite"}}','','');
INSERT INTO "audit" VALUES(2,12,2,1700000000000,'cli:test','declare attribute','user_list_once','{"after":{"type":"LIST","rule":"once"}}','','');
INSERT INTO "audit" VALUES(2,13,2,1700000000000,'cli:test','declare attribute','user_list_append','{"after":{"type":"LIST","rule":"append"}}','','');
INSERT INTO "audit" VALUES(2,14,2,1700000000000,'cli:test','declare identifier','phone','{"after":{"unique":true}}','','');
INSERT INTO "audit" VALUES(2,15,15,1700000000010,'cli:test','create key','billing','{"after":{"scopes":["write"]}}','','');
INSERT INTO "audit" VALUES(2,16,16,1700000000010,'cli:test','create key','old','{"after":{"scopes":["read"]}}','','');
INSERT INTO "audit" VALUES(2,17,17,1700000000010,'cli:test','revoke key','old','{}','','');
INSERT INTO "audit" VALUES(2,18,18,1700000000010,'cli:test','edit member','bo@example.com','{"after":{"role":"editor"}}','','');
CREATE TABLE console_session (
  digest  BLOB PRIMARY KEY,
  person  TEXT NOT NULL,
  begun   INTEGER NOT NULL,
  seen    INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  address TEXT NOT NULL,
  browser TEXT NOT NULL,
  proof   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE epoch (value INTEGER NOT NULL) STRICT;
INSERT INTO "epoch" VALUES(7);
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
CREATE TABLE key_use (
  project INTEGER NOT NULL,
  name    TEXT NOT NULL,
  at      INTEGER NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE last_write (
  project   INTEGER NOT NULL,
  attribute TEXT NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (project, attribute)
) STRICT, WITHOUT ROWID;
CREATE TABLE person (
  id       TEXT PRIMARY KEY,
  email    TEXT NOT NULL UNIQUE,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "person" VALUES('40f26b6c37f571b2','ann@example.com','{"email":"ann@example.com","created_at":1700000000010,"created_by":"cli:test","name":"Ann","password_hash":"$argon2id$v=19$m=19456,t=2,p=1$2gQNwRY5CXf/FKCSpYUcsw$J5+rdfbBfU7r9A+SKLuQ51wkuFNz9KTPRfnw1jtzSs0","admin":true}');
INSERT INTO "person" VALUES('eec4f3f75abcf3a6','bo@example.com','{"email":"bo@example.com","created_at":1700000000010,"created_by":"cli:test","name":"Bo","roles":{"2":"editor"}}');
CREATE TABLE project (
  number    INTEGER PRIMARY KEY AUTOINCREMENT,
  id        TEXT NOT NULL UNIQUE,
  version   INTEGER NOT NULL,
  next_cuid INTEGER NOT NULL,
  document  TEXT NOT NULL
) STRICT;
INSERT INTO "project" VALUES(1,'one',2,10000004,'{"name":"one","secret_salt":"NQzups5CvAU5yWDVf5mr/w==","secret_hash":"Z9j+0U6DI++oVEIGfitITLWTHBghriPVEAi8Lg71HOc=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}');
INSERT INTO "project" VALUES(2,'two',5,10000002,'{"name":"two","secret_salt":"NQzups5CvAU5yWDVf5mr/w==","secret_hash":"Z9j+0U6DI++oVEIGfitITLWTHBghriPVEAi8Lg71HOc=","timezone":"Asia/Shanghai","qps":100,"created_at":1700000000000,"attributes":[{"name":"user_number_overwrite","type":"NUMBER","rule":"overwrite"},{"name":"user_number_once","type":"NUMBER","rule":"once"},{"name":"user_number_accumulate","type":"NUMBER","rule":"accumulate"},{"name":"user_string_overwrite","type":"STRING","rule":"overwrite"},{"name":"user_string_once","type":"STRING","rule":"once"},{"name":"user_bool_overwrite","type":"BOOL","rule":"overwrite"},{"name":"user_bool_once","type":"BOOL","rule":"once"},{"name":"user_datetime_overwrite","type":"DATETIME","rule":"overwrite"},{"name":"user_datetime_once","type":"DATETIME","rule":"once"},{"name":"user_list_overwrite","type":"LIST","rule":"overwrite"},{"name":"user_list_once","type":"LIST","rule":"once"},{"name":"user_list_append","type":"LIST","rule":"append"}],"identifiers":[{"name":"phone"},{"name":"jg_registration_id","display_name":"极光设备唯一标识","unique":false},{"name":"jg_UnionID","display_name":"用户会员卡号"}]}');
CREATE TABLE project_key (
  project  INTEGER NOT NULL,
  name     TEXT NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "project_key" VALUES(1,'default','{"scopes":["write","register","import","read","schema","erase","undo","webhooks","keys"],"created_at":1796078523325,"created_by":"cli:test","proofs":[{"hash":"Z9j+0U6DI++oVEIGfitITLWTHBghriPVEAi8Lg71HOc=","salt":"NQzups5CvAU5yWDVf5mr/w=="}]}');
INSERT INTO "project_key" VALUES(2,'billing','{"scopes":["write"],"created_at":1700000000010,"created_by":"cli:test","proofs":[{"hash":"+LFcHO+pKSZVz378YVfaz5Le/FbvWvU1CnPf0Cf2xMA=","salt":"NQzups5CvAU5yWDVf5mr/w=="}]}');
INSERT INTO "project_key" VALUES(2,'default','{"scopes":["write","register","import","read","schema","erase","undo","webhooks","keys"],"created_at":1796078523325,"created_by":"cli:test","proofs":[{"hash":"Z9j+0U6DI++oVEIGfitITLWTHBghriPVEAi8Lg71HOc=","salt":"NQzups5CvAU5yWDVf5mr/w=="}]}');
INSERT INTO "project_key" VALUES(2,'old','{"scopes":["read"],"created_at":1700000000010,"created_by":"cli:test","revoked_at":1700000000010,"revoked_by":"cli:test"}');
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
CREATE INDEX arrival_by_project ON arrival (project, refused, id);
CREATE INDEX arrival_by_user ON arrival (project, cuid) WHERE cuid IS NOT NULL;
CREATE INDEX receipt_at ON receipt (at);
CREATE INDEX audit_by_actor ON audit (project, actor, number);
CREATE INDEX audit_by_kind ON audit (project, kind, number);
CREATE INDEX audit_by_subject ON audit (project, subject, number);
CREATE INDEX audit_by_time ON audit (project, at);
CREATE INDEX console_session_by_person ON console_session (person);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('project',2);
COMMIT;
