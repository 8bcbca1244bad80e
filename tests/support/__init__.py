"""What several test modules share: servers, databases, clients and faults, one concept per module."""
