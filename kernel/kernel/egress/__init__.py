"""The one address policy for everything that leaves for the network, and the dialer that keeps to it."""
