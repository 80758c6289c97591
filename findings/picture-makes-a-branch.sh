#!/usr/bin/env bash
# pydantic-ai-slim 2.68.0: a conversation with a picture that went through JSON is taken for a rewritten one.
#
# A conversation is saved in a ConversationStore, sent to another process as JSON, goes on there, and is saved again.
# Expected: the new message is appended. Seen: a BinaryContent whose media type is an image comes back from JSON as its
# subclass BinaryImage, which is not equal to it; so the store takes all messages from the picture on for changed, stores
# them once more, and leaves the old ones as a branch. A conversation with a PDF goes on as expected.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet pydantic-ai-slim==2.68.0
venv/bin/python - <<'PY'
import asyncio
import sys
from importlib.metadata import version

from pydantic import TypeAdapter
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import InMemoryConversationStore
from pydantic_ai.messages import BinaryContent, ModelRequest, ModelResponse, TextPart, UserPromptPart

AS_JSON = TypeAdapter(Conversation)


async def look(media_type):
    store = InMemoryConversationStore()
    file = BinaryContent(data=b"bytes of a file", media_type=media_type)
    asked = ModelRequest(parts=[UserPromptPart(content=["What is this?", file])])
    conversation = Conversation(messages=[asked, ModelResponse(parts=[TextPart("A file.")])])
    await store.save(conversation)
    elsewhere = AS_JSON.validate_json(AS_JSON.dump_json(conversation))
    elsewhere.messages.append(ModelRequest(parts=[UserPromptPart(content="Thanks.")]))
    stored = await store.save(elsewhere)
    record = await store.read_record(conversation.conversation_id)
    return len(stored), len(record.branches)


print("pydantic-ai-slim", version("pydantic-ai-slim"))
seen = {kind: asyncio.run(look(kind)) for kind in ("application/pdf", "image/png")}
for kind, (stored, branches) in seen.items():
    print(f"{kind}: one message more: stored {stored}, branches left {branches}")
sys.exit(seen != {"application/pdf": (1, 0), "image/png": (3, 1)})
PY
