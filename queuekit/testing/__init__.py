"""Tests of an application that dispatches jobs: a queue on a virtual clock, and asserts on what was dispatched."""
