"""Commands: what happens inside a transaction, once for every engine. Each one loads, decides by the rules, and stores."""
