"""Sessions that are encrypted before the database gets them. Needs the extra `encryption`.

```python
from sessile import SqliteStorage
from sessile.encryption import EncryptedStorage, new_key

storage = EncryptedStorage(SqliteStorage("sessions.db"), keys={"2026": new_key()})
```

AES-256-GCM with a key for each session, which is itself encrypted with a master key. What is sealed, and what is not,
says `EncryptedStorage`.
"""

from ..errors import missing_dependency

try:
    import cryptography as _cryptography
except ImportError as error:
    raise missing_dependency("cryptography", "encryption", "sessile.encryption") from error

from .keystore import Kept, KeyStore, SqliteKeyStore
from .masters import AwsKms, GcpKms, LocalKeys, MasterKeys, new_key
from .rotating import Rotated
from .storage import EncryptedStorage

__all__ = [
    "AwsKms",
    "EncryptedStorage",
    "GcpKms",
    "Kept",
    "KeyStore",
    "LocalKeys",
    "MasterKeys",
    "Rotated",
    "SqliteKeyStore",
    "new_key",
]

del _cryptography
