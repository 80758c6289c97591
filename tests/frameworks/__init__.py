"""Sessile under other frameworks, each in an environment of its own: they conflict."""
