"""Bytes to domain and back, in pure pairs: the platform's format, our own, and the texts of every problem."""
