"""Outbound HTTP, and nothing else."""
