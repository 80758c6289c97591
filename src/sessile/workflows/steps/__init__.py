"""How a step is executed, tried again and cached; agents as steps."""
