"""Our own JSON, version 1: what the native API and `--json` show (`documents`), and what it takes (`forms`, `queries`)."""
