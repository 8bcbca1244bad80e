"""The server: the platform's endpoints, the native API, and the process around them."""
