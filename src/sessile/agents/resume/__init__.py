"""How a paused or interrupted run goes on."""
