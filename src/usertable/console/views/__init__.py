"""The pages of the console, one module per subject. Each module ends with its routes, `PAGES`."""
