"""The rules. Pure: no IO, no clock, no random, no framework."""
