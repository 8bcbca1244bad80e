"""Every text of a problem, one module per language."""
