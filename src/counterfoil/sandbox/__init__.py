"""A stand-in for the points API on loopback, with faults to order. Never part of a service."""
