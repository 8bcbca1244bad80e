"""Conversion between bytes and the domain, without I/O: usertable's own formats, and the texts of every problem."""
