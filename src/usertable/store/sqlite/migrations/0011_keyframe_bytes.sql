-- The bytes of a project's keyframes. Several processes add and remove them, so the database adds them up.

CREATE TABLE keyframe_bytes (
  project INTEGER PRIMARY KEY,
  bytes   INTEGER NOT NULL
) STRICT;

INSERT INTO keyframe_bytes SELECT project, sum(octet_length(attributes)) FROM keyframe GROUP BY project;

CREATE TRIGGER keyframe_added AFTER INSERT ON keyframe BEGIN
  INSERT INTO keyframe_bytes VALUES (new.project, octet_length(new.attributes))
  ON CONFLICT (project) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER keyframe_removed AFTER DELETE ON keyframe BEGIN
  UPDATE keyframe_bytes SET bytes = bytes - octet_length(old.attributes) WHERE project = old.project;
END;
