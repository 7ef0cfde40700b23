"""Maker-checker control for loyalty points."""
