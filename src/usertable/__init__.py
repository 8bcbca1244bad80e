"""usertable: the open, self-hosted user-attribute store."""
