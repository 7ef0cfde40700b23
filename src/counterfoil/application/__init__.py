"""The verbs: one function per use case, over a list of commands, in one transaction."""
