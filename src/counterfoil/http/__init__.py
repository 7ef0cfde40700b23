"""The API edge: parse, call the verb, render. No rule, no SQL."""
