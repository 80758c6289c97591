"""How long what is kept, and showing that it is gone.

```python
from sessile.retention import Policy, retain

retain(storage, [Policy(keep="90d", spare_rated=True), Policy(kind="agent", runs=1000)], dry_run=True)
```

`erase_user` deletes all of a user, looks whether anything is left, and reports it.
"""

from .erasure import Erasure, erase_user
from .policies import Policy
from .retaining import Retained, retain

__all__ = ["Erasure", "Policy", "Retained", "erase_user", "retain"]
