"""What a process holds while a run is at work: session at hand, lease, SIGTERM, streams, result.

Agents and workflows stand on it; it knows of neither.
"""
