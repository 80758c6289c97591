"""Other frameworks on Sessile, next to the same framework on its own SQLite backend."""
