"""Trying an agent on what others have asked: stored runs as a data set, run again, judged, and compared side by side.

```python
from sessile.evaluation import Contains, cases, replay

report = replay(agent, cases(storage, user_id=ANY_USER, label="good", limit=50), evaluators=[Contains()])
print(report.text())
```
"""

from .case import Case, Replayed, cases
from .dataset import Dataset
from .evaluators import Contains, Evaluator, Exact, JsonFields, Judge, Matches, Outcome, Verdict
from .logged import NotInLogError
from .replaying import areplay, replay
from .report import Report

__all__ = [
    "Case",
    "Contains",
    "Dataset",
    "Evaluator",
    "Exact",
    "JsonFields",
    "Judge",
    "Matches",
    "NotInLogError",
    "Outcome",
    "Replayed",
    "Report",
    "Verdict",
    "areplay",
    "cases",
    "replay",
]
