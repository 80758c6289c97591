"""Other frameworks' persistence interfaces, on top of any storage of Sessile's.

Each module is for one framework, and imports it: `openai_agents`, `langgraph`, `google_adk`, `agno`, `pydantic_ai`.
Nothing is imported here.
"""
