"""One module per database. Nothing imports them but the registry, by name, and users."""
