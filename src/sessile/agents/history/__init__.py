"""What is sent along: which earlier runs of the session (`windows`, `summary`), and how (`sendable`)."""
