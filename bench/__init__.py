"""Measures Counterfoil against a yardstick: `python -m bench`, told in docs/performance.md."""
