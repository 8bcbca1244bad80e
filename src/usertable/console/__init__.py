"""The console: server-rendered pages over the service."""
