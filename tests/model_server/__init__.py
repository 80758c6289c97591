"""A small model behind the OpenAI protocol, for tests that use a real client over HTTP.

    with ModelServer() as server:
        model = OpenAIChatModel("test", provider=OpenAIProvider(base_url=server.base_url, api_key="test"))

What it answers depends only on the messages that arrive; see `brain` for the questions it knows, `behaviour`
for the marks in a message that make it fail, wait or cut the connection, and `ModelServer.plan` to do so from
a test.
"""

from __future__ import annotations

from .behaviour import Behaviour
from .brain import Reply, answer
from .server import ModelServer, RecordedRequest
from .wire import Call, count_tokens

__all__ = ["Behaviour", "Call", "ModelServer", "RecordedRequest", "Reply", "answer", "count_tokens"]
