"""What a process holds while a run is in progress: session at hand, lease, SIGTERM, streams, result.

Agents and workflows stand on it; it knows of neither.
"""
