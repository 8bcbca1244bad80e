"""What several test modules share: servers, databases, clients and faults, one concept a module."""
