"""The wire format of the platform that usertable is compatible with.

Fields, codes and limits are those of its API documents.

HTTP statuses, the code 4029 and the extensions (`Prefer`, `dryRun`, `Idempotency-Key`) are usertable's.
"""
