"""All checks, in their areas, the cheap and basic first."""

from __future__ import annotations

from dataclasses import dataclass

from . import branches, contract, damage, lists, lookups, people, processes, recovery, sessions
from .checks import Area, Check, Face, Subject, Trial

CORE = ("contract", "lookups", "lists", "sessions", "branches", "faults", "damage", "people", "model")
"""The areas that every driver must pass; the others depend on what it declares."""


@dataclass(frozen=True, slots=True)
class _ModelCheck(Check):
    """The model test makes its own storages, one for each sequence of operations."""

    def run(self, subject: Subject, face: Face) -> None:
        from .machine import run_model  # needs Hypothesis, which no other check needs

        run_model(subject, face)


async def _nothing(trial: Trial) -> None:
    """Never called."""


model = Area("model")
model.checks.append(
    _ModelCheck("model", "model_agrees", "Random sequences of operations agree with a plain model.", _nothing)
)

AREAS: tuple[Area, ...] = (
    contract.area,
    lookups.area,
    lists.area,
    sessions.area,
    branches.area,
    recovery.area,
    damage.area,
    people.area,
    model,
    processes.writers,
    processes.kills,
)
"""Everything."""
