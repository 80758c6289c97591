"""What members do: their runs below a team's run, whatever the team's mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from pydantic_ai import DeferredToolRequests, DeferredToolResults
from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.usage import RunUsage

from ...errors import MemberFailedError, NotStoredError
from ...live.result import RunResult
from ...records import FINISHED, Run, Usage
from ...storage.storage import seen_like
from ...storage.uninterrupted import wait_out
from ...storage.vocabulary import Given, LeadPassed
from ..agent import member_job
from ..events import Listen, MemberEnded, MemberStarted
from ..history.past import SessionPast
from ..messages.counted import run_usage, usage_of
from ..messages.results import as_result
from ..options import Prompt
from ..resume.decisions import undecided
from ..run.company import TeamRequest, UnchosenError
from ..run.driving import drive
from ..run.job import Job
from ..run.recorder import Recorder
from ..shown import question_of
from .answers import with_answers
from .elsewhere import own_spec, work_elsewhere
from .member import MemberRecorder, path_of
from .past import MemberPast
from .resuming import resume_member, take_member
from .roster import Pool, Roster
from .voice import Voice

SHARED = ("deps", "usage_limits")
"""What a team's run passes on to its members, of the options that it was given."""


class MemberRuns:
    """The runs of members below one run of a team.

    Each has a key, which names what in the team's run it answers: for example the id of the leader's tool call. When
    the team's run is resumed, a member's run that has ended is found by its key, and not repeated.
    """

    recorder: Recorder
    job: Job
    leads: bool = False
    """Whether members answer the user, in the place of the team."""

    def __init__(self, roster: Roster, pool: Pool, listen: Listen | None, *, answers: bool) -> None:
        self.roster = roster
        self.pool = pool
        self.given = DeferredToolResults()
        """What was decided about calls that members wait for."""
        self.results: dict[str, RunResult[Any]] = {}
        """The results of members, by key, in the order in which they began."""
        self.waiting: dict[str, DeferredToolRequests] = {}
        """What members wait for, by key."""
        self._listen = listen
        self._answers = answers
        self._kept: dict[str, Run] = {}
        self._recorders: dict[str, MemberRecorder] = {}
        self._living: set[asyncio.Task[Any]] = set()
        self._found: str | None = None
        self._going_on: dict[str, Job] = {}

    # ------------------------------------------------------------ who they are

    async def choose(self, request: TeamRequest) -> list[str] | None:
        """See `Company`."""
        if self.pool.is_fixed:
            return None
        self.roster = self.roster.of(await self.pool.chosen(request))
        return list(self.roster.members)

    def check_chosen(self, run: Run) -> None:
        """See `Company`."""
        if self._found == run.run_id:
            return
        if _was_chosen(run):
            raise UnchosenError(run)

    async def find(self, run: Run, session_id: str, user_id: str | None) -> None:
        """See `Company`. Members that go on, and have members of their own, find these, too."""
        names = _names_of(run)
        if names is not None:
            request = TeamRequest(question_of(run.input), session_id, user_id)
            self.roster = self.roster.of(await self.pool.found(names, request, run.number))
        for child in run.children:
            job = None if child.status in FINISHED else self.member_job(child.agent or "")
            if job is not None:
                await job.company.find(child, session_id, user_id)
                self._going_on[child.run_id] = job
        self._found = run.run_id

    def take_members(self, other: Any) -> None:
        """See `Company`."""
        self.roster, self._found, self._going_on = other.roster, other._found, other._going_on

    # ------------------------------------------------------------ what they do

    def begin(self, recorder: Recorder, job: Job) -> None:
        """Take up the team's run: a new one, or one that is resumed, with what members have done in it."""
        self.recorder, self.job = recorder, job
        for run in recorder.record.children:
            if run.key is not None:
                self._kept[run.key] = run
                self.results[run.key] = as_result(recorder.session, run)
        if self._listen is not None:
            voice = Voice(self._listen, self.roster.title, recorder, self._leader_answers, job.partial)
            job.options["event_stream_handler"] = voice.pass_on

    def member_job(self, name: str, run_id: str | None = None) -> Job | None:
        """See `Company`."""
        if run_id in self._going_on:
            return self._going_on[run_id]
        member = self.roster.members.get(name)
        return None if member is None else member_job(member, None, answers=True)

    def member_jobs(self) -> dict[str, Job]:
        """See `Company`."""
        return {name: member_job(member, None, answers=True) for name, member in self.roster.members.items()}

    def _leader_answers(self) -> bool:
        """Whether the leader's text is the answer of the whole team's run."""
        return self._answers

    def _member_answers(self) -> bool:
        """Whether the text of a member that is running is the answer of the whole team's run."""
        return False

    async def ask(self, name: str, prompt: Prompt, key: str, usage: RunUsage) -> RunResult[Any]:
        """Let a member work, or go on. What has ended already under this key is not asked again.

        If the team's run has limits, they hold for the sum, and what the member uses is counted in `usage` as well.
        Without them each run has Pydantic AI's default limits. Raises `MemberFailedError` if the member fails, and
        `ApprovalRequired` if it waits for a decision.
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
                    self.recorder.meter.below += result.usage - earlier
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
        job = self._equipped(name, member_job(self.roster.members[name], self._listen, answers=self._member_answers()))
        if kept is None:
            prompt = with_answers(prompt, self.recorder.record.children, self.roster.shared_answers)
        elif kept.run_id in self._going_on:
            job.company.take_members(self._going_on[kept.run_id].company)
        job.usage_before = before
        job.options.update({name: self.job.options[name] for name in SHARED if name in self.job.options})
        recorder, work = await self._begun(name, prompt, key, kept, job)
        self.results[key] = as_result(recorder.session, recorder.record)  # takes its place among the others
        self._recorders[key] = recorder
        voice = self._voice_of(recorder, job)
        if voice is not None:
            voice.say(MemberStarted(recorder.record.input))
        try:
            return await self._outcome(recorder, work)
        finally:
            record = recorder.record
            recorder.root.said[record.run_id] = recorder.transcript.said()
            if voice is not None:
                output = record.output if record.handoff is None else record.handoff
                voice.say(MemberEnded(record.status, output, record.error, record.usage))

    async def _begun(
        self, name: str, prompt: Prompt, key: str, kept: Run | None, job: Job
    ) -> tuple[MemberRecorder, Coroutine[Any, Any, RunResult[Any]]]:
        """A member's run that has started, or was taken up again, and what is left to do."""
        member = self.roster.members[name]
        own = self.recorder.root.storage
        elsewhere = None if member.storage is None else seen_like(own, member.storage)
        elsewhere = None if elsewhere is own else elsewhere
        job.prompt = prompt if kept is None else None
        chosen = await job.company.choose(self._asked(prompt)) if kept is None else None
        begin = partial(
            MemberRecorder.start, self.recorder, name, key, prompt, answers=self.leads, passed=self._passed(name)
        )
        if elsewhere is None:
            if kept is None:
                recorder = await begin(members=chosen)
                work = drive(recorder, job)
            else:
                recorder, work = await resume_member(self.recorder, kept, job, self.given)
            job.past = self._past(recorder)
            return recorder, work
        spec = await own_spec(member, self.recorder, (*path_of(self.recorder), name), kept)
        if kept is not None:
            recorder, _ = await take_member(self.recorder, kept, self.given)
            job.past = self._past(recorder, elsewhere=True)
            return recorder, work_elsewhere(elsewhere, recorder, job, spec, self.given)
        recorder = await begin({"session_id": spec.session_id}, chosen)
        job.past = self._past(recorder, elsewhere=True)
        return recorder, work_elsewhere(elsewhere, recorder, job, spec)

    def _equipped(self, name: str, job: Job) -> Job:
        """What a member's run is driven with, with what its team gives it for it."""
        return job

    def _passed(self, name: str) -> LeadPassed | None:
        """What is to be said of who leads the team when this member begins."""
        return None

    def _past(self, recorder: MemberRecorder, *, elsewhere: bool = False) -> Callable[[Any], SessionPast] | None:
        """What a member's history is chosen from; None: from its own session, `elsewhere`."""
        return None if elsewhere else partial(MemberPast, recorder, self.roster.member_history)

    def _asked(self, prompt: Prompt) -> TeamRequest:
        session = self.recorder.session
        return TeamRequest(question_of(prompt), session.session_id, session.user_id)

    def _voice_of(self, recorder: MemberRecorder, job: Job) -> Voice | None:
        if self._listen is None:
            return None
        voice = Voice(self._listen, recorder.name, recorder, self._member_answers)
        if not job.company.speaks:  # of a team its own leader speaks
            job.options["event_stream_handler"] = voice.pass_on
        return voice

    async def _outcome(self, recorder: MemberRecorder, work: Coroutine[Any, Any, RunResult[Any]]) -> RunResult[Any]:
        """The result of the member. A failure that is stored is a result like others: the team may go on without it."""
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

    def dismiss(self) -> None:
        """See `Company`."""
        for key, recorder in self._recorders.items():
            if recorder.dismiss():
                self.results[key] = as_result(recorder.session, recorder.record)

    async def settle(self) -> None:
        """End what members are still doing, because nobody waits for it any more."""
        living = list(self._living)
        for task in living:
            task.cancel()
        for task in living:
            if (cancelled := await wait_out(task)) is not None:
                raise cancelled


def _names_of(run: Run) -> list[str] | None:
    """The names of the members that a run was begun with, where they were chosen for it."""
    return Given.of(run.given or {}).members


def _was_chosen(run: Run) -> bool:
    """Whether the members of a run were chosen for it, or those of a run below it."""
    return _names_of(run) is not None or any(_was_chosen(child) for child in run.children)
