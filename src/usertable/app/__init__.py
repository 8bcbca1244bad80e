"""The use cases, by topic. The HTTP server, the console and the command line call these, and nothing below them."""
