"""Calls external hosts for approved requests: claim, intent, call, settle. Knows attempts, not makers."""
