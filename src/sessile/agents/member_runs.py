"""Members at work: their runs below a team's run, whatever the team's mode."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_ai import DeferredToolRequests, DeferredToolResults
from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.messages import UserContent
from pydantic_ai.usage import RunUsage

from ..errors import MemberFailedError, NotStoredError
from ..records import FINISHED, Run, Usage
from .driving import Job, drive
from .elsewhere import own_spec, work_elsewhere
from .member import MemberRecorder, path_of
from .messages import run_usage, usage_of
from .recorder import Recorder, wait_out
from .result import RunResult, as_result
from .resuming import resume_member, take_member, undecided
from .team_events import Listen, MemberEnded, MemberStarted, Voice

if TYPE_CHECKING:
    from .team import Team

Prompt = str | Sequence[UserContent]

SHARED = ("deps", "usage_limits")
"""What a team's run passes on to its members, of the options that it was given."""


class MemberRuns:
    """The runs of members below one run of a team.

    Each has a key, which says what in the team's run it answers. By it a run of members that has ended is found again
    when the team's run is resumed, and not repeated.
    """

    recorder: Recorder
    job: Job

    def __init__(self, team: Team[Any], listen: Listen | None, *, answers: bool) -> None:
        self.team = team
        self.given = DeferredToolResults()
        """What was decided about calls that members wait for."""
        self.results: dict[str, RunResult[Any]] = {}
        """What members have come to, by key, in the order in which they began."""
        self.waiting: dict[str, DeferredToolRequests] = {}
        """What members wait for, by key."""
        self._listen = listen
        self._answers = answers
        self._kept: dict[str, Run] = {}
        self._living: set[asyncio.Task[Any]] = set()

    def begin(self, recorder: Recorder, job: Job) -> None:
        """Take up the team's run: a new one, or one that is resumed, with what members have done in it."""
        self.recorder, self.job = recorder, job
        for run in recorder.record.children:
            if run.key is not None:
                self._kept[run.key] = run
                self.results[run.key] = as_result(recorder.session, run)
        if self._listen is not None:
            voice = Voice(self._listen, self.team.title, recorder, self._leader_answers)
            job.options["event_stream_handler"] = voice.pass_on

    def _leader_answers(self) -> bool:
        """Whether the leader's text is the answer of the whole team's run."""
        return self._answers

    def _member_answers(self) -> bool:
        """Whether the text of a member that is at work is."""
        return False

    async def ask(self, name: str, prompt: Prompt, key: str, usage: RunUsage) -> RunResult[Any]:
        """Let a member work, or go on; one that has ended already in this run of the team is not asked again.

        What it uses is counted in `usage` too if the team's run has limits, which hold for the sum; without them each
        run has Pydantic AI's own. Raises `MemberFailedError` if it fails, and `ApprovalRequired` if it waits for a
        decision.
        """
        kept = self._kept.get(key)
        if kept is None or kept.status not in FINISHED:
            waits = None if kept is None else undecided(kept, self.given)
            if waits is None:
                earlier = Usage() if kept is None else kept.usage
                before = usage_of(usage) - earlier if self.job.limited else Usage()
                result = self.results[key] = await self._work(name, prompt, key, kept, before)
                if self.job.limited:
                    usage.incr(run_usage(result.usage - earlier))
                    self.recorder.usage_below += result.usage - earlier
                waits = result.pending
            if waits is not None:
                self.waiting[key] = waits
                raise ApprovalRequired
        result = self.results[key]
        if result.status == "completed":
            return result
        said = "it was cancelled" if result.error is None else f"{result.error['type']}: {result.error['message']}"
        failure = MemberFailedError(f"The member {name!r} has failed: {said}")
        failure.result = result
        raise failure

    async def _work(self, name: str, prompt: Prompt, key: str, kept: Run | None, before: Usage) -> RunResult[Any]:
        """A member's run, to its end."""
        job = self.team.members[name].job({}, stored=True, listen=self._listen, answers=self._member_answers())
        job.usage_before = before
        job.options.update({name: self.job.options[name] for name in SHARED if name in self.job.options})
        recorder, work = await self._begun(name, prompt, key, kept, job)
        self.results[key] = as_result(recorder.session, recorder.record)  # takes its place among the others
        voice = self._voice_of(recorder, job)
        if voice is not None:
            voice.say(MemberStarted(recorder.record.input))
        try:
            return await self._outcome(recorder, work)
        finally:
            record = recorder.record
            recorder.root.said[record.run_id] = [*recorder.earlier, *recorder.own(recorder.messages)]
            if voice is not None:
                voice.say(MemberEnded(record.status, record.output, record.error, record.usage))

    async def _begun(
        self, name: str, prompt: Prompt, key: str, kept: Run | None, job: Job
    ) -> tuple[MemberRecorder, Coroutine[Any, Any, RunResult[Any]]]:
        """A member's run that has started, or was taken up again, and what is left to do."""
        history, member = self.team.member_history, self.team.members[name]
        elsewhere = None if member.storage is self.recorder.root.storage else member.storage
        job.prompt = prompt if kept is None else None
        if elsewhere is None:
            if kept is not None:
                return await resume_member(self.recorder, kept, history, job, self.given)
            recorder = await MemberRecorder.start(self.recorder, name, key, history, prompt)
            return recorder, drive(recorder, job)
        spec = own_spec(member, self.recorder, (*path_of(self.recorder), name))
        if kept is not None:
            recorder, _ = await take_member(self.recorder, kept, history, self.given)
            return recorder, work_elsewhere(member, elsewhere, recorder, job, spec, self.given)
        place = {"session_id": spec.session_id}
        recorder = await MemberRecorder.start(self.recorder, name, key, history, prompt, place)
        return recorder, work_elsewhere(member, elsewhere, recorder, job, spec)

    def _voice_of(self, recorder: MemberRecorder, job: Job) -> Voice | None:
        if self._listen is None:
            return None
        voice = Voice(self._listen, recorder.name, recorder, self._member_answers)
        if job.team is None:  # of a team its own leader speaks
            job.options["event_stream_handler"] = voice.pass_on
        return voice

    async def _outcome(self, recorder: MemberRecorder, work: Coroutine[Any, Any, RunResult[Any]]) -> RunResult[Any]:
        """What the member comes to; a failure that is stored is a result as well, and ends nobody else's work."""
        task = asyncio.ensure_future(work)
        self._living.add(task)
        task.add_done_callback(partial(self._left, recorder))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await wait_out(task)
            raise
        error = None if task.cancelled() else task.exception()
        if isinstance(error, NotStoredError) or not recorder.ended or recorder.root.token.cancelled:
            return task.result()
        if isinstance(error, Exception):
            return as_result(recorder.session, recorder.record)
        return task.result()

    def _left(self, recorder: MemberRecorder, task: asyncio.Task[Any]) -> None:
        self._living.discard(task)
        self.results[recorder.key] = as_result(recorder.session, recorder.record)
        if not task.cancelled():
            task.exception()  # of one that nobody waits for any more, it is stored, and not to be reported as lost

    async def settle(self) -> None:
        """End what members are still doing, because nobody waits for it any more."""
        living = list(self._living)
        for task in living:
            task.cancel()
        for task in living:
            if (cancelled := await wait_out(task)) is not None:
                raise cancelled
