"""What happens inside a transaction, once for every engine: each command loads, decides by the rules, and keeps."""
