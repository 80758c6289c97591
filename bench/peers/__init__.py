"""Other libraries' SQLite session storage, each measured in an environment of its own."""
