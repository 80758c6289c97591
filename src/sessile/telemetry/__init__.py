"""OpenTelemetry: spans and metrics of what a storage does, the session on every span of a run, feedback as events.

Off unless a program asks for it. `opentelemetry-api` comes with Pydantic AI; what is recorded goes where the program's
OpenTelemetry SDK sends it.

```python
from sessile.insight import Index
from sessile.telemetry import SessionSpans, instrument, observe_usage

provider.add_span_processor(SessionSpans())
instrument(storage)
observe_usage(Index(storage))
```
"""

from .driver import instrument
from .exporting import export_otel
from .messages import run_attributes, to_otel
from .spans import SessionSpans
from .usage import observe_usage

__all__ = ["SessionSpans", "export_otel", "instrument", "observe_usage", "run_attributes", "to_otel"]
