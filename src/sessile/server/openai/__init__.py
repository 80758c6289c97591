"""OpenAI's endpoints, by which any client of theirs goes on with a stored session: Responses and Chat Completions."""
