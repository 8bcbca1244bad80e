"""How writes reach the store: the event loop batches them, sends a batch to a channel, and answers when it is durable."""
