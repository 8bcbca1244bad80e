"""How writes reach the store: collected into batches by the event loop, sent down a channel, and answered when durable."""
