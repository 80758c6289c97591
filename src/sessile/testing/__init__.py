"""For authors of drivers: the suite that decides whether a driver is right, and faults to test with.

Two ways to run it. As a pytest class, which is subclassed:

```python
from sessile.testing import DriverConformance

class TestMyStorage(DriverConformance):
    def make_storage(self):
        return MyStorage(...)          # fresh and empty, each time
```

Or by one call, with a report:

```python
from sessile.testing import check_driver

report = check_driver(lambda: MyStorage(...))
print(report)                          # a table, the level reached, and what failed
```

It checks every method of the driver and every operation of the storage above it, synchronously and asynchronously;
lost answers, failures and crashes (`sessile.testing.faults`); random sequences of operations against a plain model
in memory; several processes on the same data; and `kill -9`. Capabilities that a driver declares are tested, others
are not. Needs `pip install "sessile[testing]"`.

For databases that are reached over TCP there are campaigns beside it, which cut connections at every byte that matters
(`sessile.testing.connections`), and kill the server or let another one take over (`sessile.testing.outages`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..later import names_of

if TYPE_CHECKING:
    from . import faults
    from .checks import ConformanceError, Location, Scale, Subject
    from .conformance import DriverConformance
    from .connections import Network, run_absent, run_cuts, run_exhausted, run_read_cuts
    from .machine import machine_for
    from .outages import run_failover, run_restarts
    from .processes import Figures, run_kills, run_writers
    from .proxy import CuttingProxy
    from .report import Level, Outcome, Report, check_driver

_NAMES = {
    "ConformanceError": "checks",
    "CuttingProxy": "proxy",
    "DriverConformance": "conformance",
    "Figures": "processes",
    "Level": "report",
    "Location": "checks",
    "Network": "connections",
    "Outcome": "report",
    "Report": "report",
    "Scale": "checks",
    "Subject": "checks",
    "check_driver": "report",
    "machine_for": "machine",
    "run_absent": "connections",
    "run_cuts": "connections",
    "run_exhausted": "connections",
    "run_failover": "outages",
    "run_kills": "processes",
    "run_read_cuts": "connections",
    "run_restarts": "outages",
    "run_writers": "processes",
}

# On use, so that writing processes start fast and a missing pytest is no error for who only needs `faults`.
_find, __dir__ = names_of(__name__, {**_NAMES, "faults": ""})


def __getattr__(name: str) -> Any:
    return import_module(".faults", __name__) if name == "faults" else _find(name)


__all__ = [
    "DriverConformance",
    "check_driver",
    "Report",
    "Outcome",
    "Level",
    "Scale",
    "Subject",
    "Location",
    "ConformanceError",
    "faults",
    "machine_for",
    "run_kills",
    "run_writers",
    "Figures",
    "Network",
    "CuttingProxy",
    "run_cuts",
    "run_read_cuts",
    "run_absent",
    "run_exhausted",
    "run_restarts",
    "run_failover",
]
