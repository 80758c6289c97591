"""OpenAI's endpoints, by which any client of theirs continues a stored session: Responses and Chat Completions."""
