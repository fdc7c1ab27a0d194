"""The catalogue of queuekit's guarantees, and what runs it against a driver."""
