"""What happens in one run: its start, the commits in between, its end, its usage."""
