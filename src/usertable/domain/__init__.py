"""The pure core: data types, rules, schemas. Standard library only; no clock, no I/O, no randomness."""
