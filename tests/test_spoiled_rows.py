"""Commands over rows of which somebody has made something else (see `spoiled_rows.py`): a share of `make torture`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.spoiled_rows import ELSEWHERE, Campaign, commands

from sessile.testing import Scale

pytest.importorskip("typer")


def test_every_command_is_called(tmp_path: Path) -> None:
    import typer

    from sessile.cli.commands import app

    known = set(typer.main.get_command(app).commands) - ELSEWHERE  # type: ignore[attr-defined]
    assert known == {call[0] for call in commands("sqlite:///s.db", tmp_path)}


def test_commands_over_spoiled_rows(tmp_path: Path, scale: Scale) -> None:
    campaign = Campaign(tmp_path)
    for number in range(6):
        campaign.run(f"{scale.seed}/{number}", share=0.15)
    assert campaign.calls > 20
    assert not campaign.problems, "\n".join(campaign.problems)
