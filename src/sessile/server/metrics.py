"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of how long requests take, in seconds."""


@dataclass
class Metrics:
    """Counts since the process began."""

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter[tuple[str, str, int]])
    seconds: Counter[float] = field(default_factory=Counter[float])
    total_seconds: float = 0.0
    runs: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    resumed: int = 0

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request, by the route's pattern and never by its address."""
        self.requests[method, route, status] += 1
        self.total_seconds += seconds
        self.seconds[next((end for end in BUCKETS if seconds <= end), float("inf"))] += 1

    def run(self, agent: str, status: str) -> None:
        """Count a run that has ended here."""
        self.runs[agent, status] += 1

    def text(self, now: Mapping[str, float], storage: Mapping[str, int]) -> str:
        """All of them. `now` is what is at this moment, `storage` what the storage has counted."""
        lines = [*_head("sessile_http_requests_total", "counter", "Requests that were answered.")]
        for (method, route, status), count in sorted(self.requests.items()):
            lines.append(_line("sessile_http_requests_total", count, method=method, route=route, status=str(status)))
        lines += _head("sessile_http_request_seconds", "histogram", "How long it took to answer; streams to their end.")
        below = 0
        for end in (*BUCKETS, float("inf")):
            below += self.seconds[end]
            lines.append(_line("sessile_http_request_seconds_bucket", below, le="+Inf" if end > 60 else str(end)))
        lines.append(f"sessile_http_request_seconds_sum {self.total_seconds:.6f}")
        lines.append(f"sessile_http_request_seconds_count {below}")
        lines += _head("sessile_runs_total", "counter", "Runs that have ended, or paused, here.")
        for (agent, status), count in sorted(self.runs.items()):
            lines.append(_line("sessile_runs_total", count, agent=agent, status=status))
        lines += [*_head("sessile_runs_resumed_total", "counter", "Interrupted runs that have gone on here.")]
        lines.append(f"sessile_runs_resumed_total {self.resumed}")
        lines += _head("sessile_storage_events_total", "counter", "Lost races, retries and others of the storage.")
        lines += [_line("sessile_storage_events_total", count, event=name) for name, count in sorted(storage.items())]
        for name, value in now.items():
            lines += [*_head(name, "gauge", "Now."), f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> Iterable[str]:
    return (f"# HELP {name} {text}", f"# TYPE {name} {kind}")


def _line(name: str, value: float, **labels: str) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{shown}}} {value:g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
