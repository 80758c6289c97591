"""Moving sessions: from one storage into another, and into files that other programs read.

`copy` takes sessions as they are, with their logs, media, ids and times, from any storage into any other;
`export_archive` and `import_archive` do so by way of a file. `import_conversations` takes over what other libraries
have stored. `export_runs`, `export_messages`, `export_chat` and `export_transcripts` write what others read: tables,
conversations for fine-tuning, pages for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..later import names_of

if TYPE_CHECKING:
    from .archiving import Archived, export_archive, import_archive
    from .backup import BackedUp, back_up, restore, verify_all
    from .chat import export_chat
    from .copying import Copied, copy
    from .filters import SessionChoice
    from .giving import give
    from .importing.importing import Imported, Library, import_conversations
    from .pages import export_transcripts
    from .tables import export_messages, export_runs
    from .told import Exported, Redaction

_NAMES = {
    "Archived": "archiving",
    "BackedUp": "backup",
    "Copied": "copying",
    "Exported": "told",
    "Imported": "importing.importing",
    "Library": "importing.importing",
    "Redaction": "told",
    "SessionChoice": "filters",
    "back_up": "backup",
    "copy": "copying",
    "export_archive": "archiving",
    "export_chat": "chat",
    "export_messages": "tables",
    "export_runs": "tables",
    "export_transcripts": "pages",
    "give": "giving",
    "import_archive": "archiving",
    "import_conversations": "importing.importing",
    "restore": "backup",
    "verify_all": "backup",
}

__all__ = [
    "Archived",
    "BackedUp",
    "Copied",
    "Exported",
    "Imported",
    "Library",
    "Redaction",
    "SessionChoice",
    "back_up",
    "copy",
    "export_archive",
    "export_chat",
    "export_messages",
    "export_runs",
    "export_transcripts",
    "give",
    "import_archive",
    "import_conversations",
    "restore",
    "verify_all",
]

__getattr__, __dir__ = names_of(__name__, _NAMES)
