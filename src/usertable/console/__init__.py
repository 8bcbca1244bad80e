"""The Data Center in a browser: server-rendered pages over the service."""
