"""The wire format of the platform that usertable began with: fields, codes and limits are those of its API documents.

HTTP statuses, the code 4029 and the extras (`Prefer`, `dryRun`, `Idempotency-Key`) are ours.
"""
