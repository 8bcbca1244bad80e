"""The pages, by what they are about. Each module ends in `PAGES`, its routes."""
