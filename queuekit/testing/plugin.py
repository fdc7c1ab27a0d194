"""The pytest plugin of queuekit."""
