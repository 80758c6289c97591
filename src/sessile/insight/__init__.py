"""Looking into many sessions: runs by filters, search, usage. Answered from an index that is made of the log.

```python
from sessile.insight import Index

index = Index(storage)
index.runs(user_id="ada", status="failed")
index.search("refund", user_id="ada")
index.usage(user_id="ada", by="day").total.cost
```
"""

from .asking import examples
from .fewshot import Example, Examples, ToolUse
from .filters import RunFilters
from .found import FoundPage, FoundRun, Hit, Snippet
from .index import Index, existing_index
from .usage import UsageRow, UsageTable

__all__ = [
    "Example",
    "Examples",
    "FoundPage",
    "FoundRun",
    "Hit",
    "Index",
    "RunFilters",
    "Snippet",
    "ToolUse",
    "UsageRow",
    "UsageTable",
    "examples",
    "existing_index",
]
