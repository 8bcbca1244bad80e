"""usertable's own JSON, version 1: answers of the native API and `--json` (`documents`), requests (`forms`, `queries`)."""
