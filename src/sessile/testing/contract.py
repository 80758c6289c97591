"""The contract of `Driver`, checked call by call: `load`, `append`, `entries`, `delete` and the records."""

from __future__ import annotations

from typing import Any

from ..errors import DeadlineError
from ..storage.driver import Append, CommitRow, Deadline, HeadRow, ListQuery, Span
from ..storage.rows import LOADED_BYTES
from .checks import Area, Trial, expect, expect_equal, expect_error
from .samples import HOSTILE_IDS, HOSTILE_VALUES, START, append_of, commit_row, head_row

area = Area("contract")

BATCH = 20
"""How many commits a batch has in these checks, if the driver takes so many."""


async def _seqs(trial: Trial, **span: Any) -> list[int]:
    return [row.seq for row in await trial.driver.entries("s", "i1", **span)]


async def _append(trial: Trial, write: Append) -> None:
    expect(await trial.driver.append(write), f"append after revision {write.expected} lost a race without rivals")


async def _fill(trial: Trial, runs: tuple[int, ...], session_id: str = "s") -> None:
    """One commit for each run number."""
    for seq, run in enumerate(runs):
        await _append(trial, append_of(session_id, seq, runs=(run,)))


async def _expect_stored(trial: Trial, write: Append) -> None:
    """The session's head is that of the write, and its newest commits are those of the write."""
    loaded = await trial.driver.load(write.session_id, len(write.commits))
    expect(loaded is not None, f"load of session {write.session_id!r} after an acknowledged append found nothing")
    assert loaded is not None
    if trial.capabilities.transactional_head:
        expect_equal(loaded.head, write.head, "the head that load brings")
    else:
        expect(loaded.head.revision <= write.head.revision, "the head is ahead of its log")
    expect_equal(loaded.commits[-len(write.commits) :], list(write.commits), "the newest commits that load brings")


# ---------------------------------------------------------------- setup and load


@area.check()
async def setup_is_idempotent(trial: Trial) -> None:
    """Setup may be called again at any time, also by several at once, and changes no data."""
    await trial.together(*[trial.driver.setup] * 4)
    await _append(trial, append_of())
    await trial.driver.setup()
    await _expect_stored(trial, append_of())


@area.check()
async def load_of_nothing(trial: Trial) -> None:
    """A session that was never made is None, however many commits are asked for."""
    expect_equal(await trial.driver.load("s", 0), None, "load of an absent session")
    expect_equal(await trial.driver.load("s", 10), None, "load of an absent session")
    expect_equal(await trial.driver.entries("s", "i1"), [], "entries of an absent session")


@area.check()
async def load_brings_the_newest_commits(trial: Trial) -> None:
    """As many of the newest commits as asked for, the oldest of them first, with the head."""
    await _fill(trial, (0, 1, 1, 2, 0))
    for newest in (1, 3, 5, 50):
        loaded = await trial.driver.load("s", newest)
        assert loaded is not None
        wanted = list(range(max(1, 6 - newest), 6))
        expect_equal([row.seq for row in loaded.commits], wanted, f"commits of load(newest={newest})")
        expect_equal(loaded.head.session_id, "s", "session_id of the head")
    loaded = await trial.driver.load("s", 0)
    expect(loaded is not None and loaded.commits == [], "load(newest=0) brings no commits")


@area.check(needs="bounded_pages")
async def load_by_bytes(trial: Trial) -> None:
    """However many commits are asked for, what comes is bounded; what is small all comes, and the newest always."""
    share = LOADED_BYTES // 4 - 100_000
    await _fill(trial, (1, 1, 1))
    for seq in range(3, 11):
        await _append(trial, append_of("s", seq, runs=(1,), text="é" * ((share if seq < 9 else 10) // 2)))
    for newest in (2, 4, 9, 20, 50):
        await _expect_bounded(trial, newest, last=11, least=min(newest, 4 if newest < 5 else 2))
    await _append(trial, append_of("s", 11, text="x" * LOADED_BYTES))
    await _expect_bounded(trial, 20, last=12, least=1)


async def _expect_bounded(trial: Trial, newest: int, *, last: int, least: int) -> None:
    loaded = await trial.driver.load("s", newest)
    assert loaded is not None
    seqs = [row.seq for row in loaded.commits]
    expect_equal(seqs, list(range(last + 1 - len(seqs), last + 1)), f"load(newest={newest}) has no gaps")
    expect(least <= len(seqs) <= newest, f"load(newest={newest}) brings {len(seqs)} commits")
    sizes = [len(row.body.encode()) for row in loaded.commits]
    expect(sum(sizes) - max(sizes) <= LOADED_BYTES, f"load(newest={newest}) brings {sum(sizes):,} bytes")


@area.check()
async def load_tells_the_time(trial: Trial) -> None:
    """`now` is the database's clock in microseconds, and does not stand still."""
    await _append(trial, append_of())
    first = await trial.driver.load("s")
    assert first is not None
    expect(1_600_000_000_000_000 < first.now < 10_000_000_000_000_000, f"now={first.now} is not in microseconds UTC")

    async def later() -> bool:
        loaded = await trial.driver.load("s")
        return loaded is not None and loaded.now > first.now

    await trial.until(later, "the clock went on")


@area.check()
async def load_shows_hidden_and_expired_heads(trial: Trial) -> None:
    """Whether a hidden or expired session is absent is decided above the driver."""
    hidden = append_of("hidden", hidden="building")
    expired = append_of("expired", expires_at=START + 1, ttl=0)
    for write in (hidden, expired):
        await _append(trial, write)
        await _expect_stored(trial, write)


@area.check()
async def load_is_one_look(trial: Trial) -> None:
    """While somebody appends, what load brings is contiguous and reaches at least to the head's revision."""
    await _append(trial, append_of())

    async def write() -> None:
        for seq in range(1, 40):
            await _append(trial, append_of(expected=seq))

    async def read() -> None:
        revision = 0
        while revision < 40 and not broken:
            loaded = await trial.driver.load("s", 5)
            assert loaded is not None
            seqs = [row.seq for row in loaded.commits]
            revision = max(seqs, default=0)
            if seqs != list(range(seqs[0], seqs[0] + len(seqs))) or revision < loaded.head.revision:
                broken.append(f"load brought commits {seqs} with a head at revision {loaded.head.revision}")
            if trial.capabilities.transactional_head and revision != loaded.head.revision:
                broken.append(f"load brought commits up to {revision}, the head is at {loaded.head.revision}")

    broken: list[str] = []
    await trial.together(write, read, read)
    expect(not broken, "; ".join(broken))


# ---------------------------------------------------------------- append


@area.check()
async def append_creates(trial: Trial) -> None:
    """`expected == 0` makes the session, with everything as it was given."""
    write = append_of(
        agent="support",
        user_id="ada",
        name="Capitals",
        status="completed",
        metadata={"plan": "pro", "n": 1},
        expires_at=START * 10,
    )
    await _append(trial, write)
    await _expect_stored(trial, write)


@area.check()
async def append_replaces_the_head(trial: Trial) -> None:
    """Everything in the head becomes what the newest append says, and lists go by it."""
    before: dict[str, Any] = {"user_id": "ada", "agent": "a", "name": "n", "status": "running", "metadata": {"k": 1}}
    after: dict[str, Any] = {"user_id": "bob", "agent": "b", "name": "m", "status": "failed", "metadata": {"l": 2}}
    await _append(trial, append_of(**before, expires_at=START * 10, ttl=5))
    await _append(trial, append_of(expected=1, **after, expires_at=START * 20, ttl=6, state={"s": 1}))
    await _expect_stored(trial, append_of(expected=1, **after, expires_at=START * 20, ttl=6, state={"s": 1}))
    await expect_listed(trial, ["s"], user_id="bob", agent="b", status="failed", metadata={"l": 2}, name_prefix="m")
    await expect_listed(trial, [], metadata_keys=("k",))
    await expect_listed(trial, [], expired_before=START * 10)
    await _append(trial, append_of(expected=2, hidden="deleted"))
    await expect_listed(trial, [])
    await expect_listed(trial, ["s"], hidden=True, user_id=None)


@area.check()
async def append_does_not_create_twice(trial: Trial) -> None:
    """`expected == 0` loses against any session of that id, and changes nothing."""
    await _append(trial, append_of(text="first"))
    for incarnation in ("i1", "i2"):
        lost = append_of(incarnation=incarnation, text="second")
        expect(not await trial.driver.append(lost), f"a session was made over another one ({incarnation})")
    await _expect_stored(trial, append_of(text="first"))
    expect_equal(await trial.driver.entries("s", "i2"), [], "entries of the incarnation that lost")


@area.check()
async def append_compares_the_revision(trial: Trial) -> None:
    """An append that expects an earlier or a later revision loses, and changes nothing."""
    await _fill(trial, (0, 0, 0))
    for expected in (1, 2, 4, 9):
        lost = append_of(expected=expected, text="late")
        expect(not await trial.driver.append(lost), f"append at revision 3 won although it expected {expected}")
    await _expect_stored(trial, append_of(expected=2))
    expect_equal(await _seqs(trial), [1, 2, 3], "the log after appends that lost")


@area.check()
async def append_compares_the_incarnation(trial: Trial) -> None:
    """A session that was deleted and made again is another one: appends to the old one lose."""
    await _append(trial, append_of(incarnation="old"))
    await trial.driver.delete("s", "old")
    await _append(trial, append_of(incarnation="new"))
    lost = append_of(expected=1, incarnation="old", text="late")
    expect(not await trial.driver.append(lost), "append to an incarnation that was deleted won")
    await _expect_stored(trial, append_of(incarnation="new"))


@area.check()
async def append_needs_a_session(trial: Trial) -> None:
    """An append that expects a revision above 0 loses where there is no session, and makes none."""
    expect(not await trial.driver.append(append_of(expected=1)), "append to an absent session won")
    expect_equal(await trial.driver.load("s", 5), None, "load after an append that lost")
    expect_equal(await trial.driver.entries("s", "i1"), [], "entries after an append that lost")


@area.check()
async def append_takes_batches(trial: Trial) -> None:
    """As many commits as declared go in at once, also when they make the session; the order is kept."""
    count = min(trial.capabilities.commits_per_append, BATCH)
    await _append(trial, append_of(count=count, text="a"))
    await _append(trial, append_of(expected=count, count=count, text="b"))
    await _expect_stored(trial, append_of(expected=count, count=count, text="b"))
    expect_equal(await _seqs(trial), list(range(1, 2 * count + 1)), "the log after two batches")


@area.check()
async def batches_are_whole_or_not_at_all(trial: Trial) -> None:
    """A batch that loses leaves none of its commits, not even those that nobody else has claimed."""
    count = min(trial.capabilities.commits_per_append, BATCH)
    await _append(trial, append_of(text="first"))
    for expected in (0, 2):
        lost = append_of(expected=expected, count=count, text="lost")
        expect(not await trial.driver.append(lost), "a batch at the wrong revision won")
    rows = await trial.driver.entries("s", "i1")
    expect_equal(rows, [commit_row(1, text="first")], "the log after batches that lost")
    await _append(trial, append_of(expected=1, count=count, text="won"))
    await _expect_stored(trial, append_of(expected=1, count=count, text="won"))


@area.check()
async def one_of_many_wins(trial: Trial) -> None:
    """Of appends that expect the same revision exactly one wins, and it is the one in the log."""
    for expected in range(6):
        writes = [append_of(expected=expected, text=f"w{number}") for number in range(6)]
        await _race(trial, writes)


@area.check()
async def one_of_many_batches_wins(trial: Trial) -> None:
    """Of batches that overlap exactly one wins, and nothing of the others is in the log."""
    count = min(trial.capabilities.commits_per_append, 5)
    writes = [append_of(count=1 + number % count, text=f"w{number}") for number in range(6)]
    winner = await _race(trial, writes)
    rows = await trial.driver.entries("s", "i1")
    expect_equal(rows, list(winner.commits), "the log after batches that raced")


@area.check()
async def one_incarnation_wins(trial: Trial) -> None:
    """Of those who make the same session at the same time exactly one succeeds."""
    for number in range(5):
        writes = [append_of(f"s{number}", incarnation=f"i{rival}") for rival in range(6)]
        await _race(trial, writes)
        for write in writes:
            rows = await trial.driver.entries(write.session_id, write.incarnation)
            loaded = await trial.driver.load(write.session_id)
            won = loaded is not None and loaded.head.incarnation == write.incarnation
            expect_equal(len(rows), int(won), "commits of an incarnation")


async def _race(trial: Trial, writes: list[Append]) -> Append:
    def attempt(write: Append) -> Any:
        return lambda: trial.driver.append(write)

    outcomes = await trial.together(*[attempt(write) for write in writes])
    winners = [write for write, won in zip(writes, outcomes, strict=True) if won]
    expect_equal(len(winners), 1, f"winners of a race for revision {writes[0].expected}")
    await _expect_stored(trial, winners[0])
    return winners[0]


# ---------------------------------------------------------------- what is kept


@area.check()
async def ids_are_kept_apart(trial: Trial) -> None:
    """Ids with any characters, alike or long, name sessions of their own."""
    for number, session_id in enumerate(HOSTILE_IDS):
        write = append_of(session_id, text=f"n{number}", user_id=session_id, agent=session_id, name=session_id)
        await _append(trial, write)
    for number, session_id in enumerate(HOSTILE_IDS):
        write = append_of(session_id, text=f"n{number}", user_id=session_id, agent=session_id, name=session_id)
        await _expect_stored(trial, write)
        await expect_listed(trial, [session_id], user_id=session_id)
        await expect_listed(trial, [session_id], agent=session_id)
    await trial.driver.delete(HOSTILE_IDS[0], "i1")
    await expect_listed(trial, list(HOSTILE_IDS[1:]), any_order=True, limit=500)


@area.check()
async def texts_come_back_as_they_went(trial: Trial) -> None:
    """Bodies and metadata are opaque text: no value, order of keys or way of writing a number changes."""
    values = dict(zip((f"k{number}" for number in range(100)), HOSTILE_VALUES, strict=False))
    small = {key: value for key, value in values.items() if len(repr(value)) < 1000}
    write = append_of(state=values, metadata=small)
    body = '{"version":1,"entries":[],"z":1.10,"a":1E2,"a":"\\u0000\\ud800","b" : 12345678901234567890123}'
    commit = CommitRow(1, "c", 0, START, body)
    write = write._replace(commits=(commit,))
    await _append(trial, write)
    await _expect_stored(trial, write)
    expect_equal(await trial.driver.entries("s", "i1"), [commit], "a commit that entries brings")


@area.check()
async def large_texts_are_kept(trial: Trial) -> None:
    """A commit of a megabyte comes back whole."""
    write = append_of(text="x")
    write = write._replace(commits=(commit_row(1, text="ä🦪" * 170_000),))
    await _append(trial, write)
    await _expect_stored(trial, write)


@area.check()
async def the_largest_commits_are_kept(trial: Trial) -> None:
    """A commit of over eight megabytes, of a storage's default limit of sixteen, comes back whole."""
    write = append_of(text="x")
    write = write._replace(commits=(commit_row(1, text="0123456789abcdef" * 560_000),))
    await _append(trial, write)
    rows = await trial.driver.entries("s", "i1")
    expect(rows == list(write.commits), "a commit of 9 MB came back changed")


@area.check()
async def long_ids_are_kept(trial: Trial) -> None:
    """Ids of 255 bytes come back whole, those of commits too: by its own id a writer finds its commit."""
    write = append_of("s" * 255, incarnation="i" * 32, user_id="u" * 255, agent="a" * 255, name="n" * 255)
    write = write._replace(commits=(write.commits[0]._replace(commit_id="c" * 127 + "é" * 64),))
    await _append(trial, write)
    await _expect_stored(trial, write)


@area.check()
async def numbers_are_kept(trial: Trial) -> None:
    """Times beyond 2**53 and large run numbers come back exactly."""
    head: HeadRow = head_row(created_at=2**53 + 1, updated_at=2**53 + 3, expires_at=253_402_300_799_999_999)
    commit = CommitRow(1, "c", 2**31 + 1, 2**53 + 1, commit_row(1).body)
    write = Append("s", "i1", 0, (commit,), head)
    await _append(trial, write)
    await _expect_stored(trial, write)
    expect_equal(await _seqs(trial, runs=(2**31 + 1, 2**31 + 1)), [1], "entries of a large run number")


# ---------------------------------------------------------------- entries


@area.check()
async def entries_by_seq(trial: Trial) -> None:
    """`first` and `last` are inclusive, an open end is open, and nothing lies beyond the log."""
    await _fill(trial, (0,) * 10)
    expect_equal(await _seqs(trial), list(range(1, 11)), "all entries")
    expect_equal(await _seqs(trial, first=4), list(range(4, 11)), "entries from 4")
    expect_equal(await _seqs(trial, last=4), [1, 2, 3, 4], "entries up to 4")
    expect_equal(await _seqs(trial, first=3, last=5), [3, 4, 5], "entries from 3 to 5")
    expect_equal(await _seqs(trial, first=7, last=7), [7], "entry 7")
    expect_equal(await _seqs(trial, first=6, last=5), [], "entries of an empty span")
    expect_equal(await _seqs(trial, first=11), [], "entries after the last")
    expect_equal(await _seqs(trial, last=99), list(range(1, 11)), "entries up to 99")


@area.check()
async def entries_by_direction_and_limit(trial: Trial) -> None:
    """The limit counts from the end that the direction begins at."""
    await _fill(trial, (0,) * 10)
    expect_equal(await _seqs(trial, limit=3), [1, 2, 3], "the first 3")
    expect_equal(await _seqs(trial, limit=3, newest_first=True), [10, 9, 8], "the last 3, newest first")
    expect_equal(await _seqs(trial, last=6, limit=2, newest_first=True), [6, 5], "the last 2 up to 6")
    expect_equal(await _seqs(trial, first=4, limit=2), [4, 5], "the first 2 from 4")
    expect_equal(await _seqs(trial, first=9, newest_first=True), [10, 9], "from 9, newest first")


@area.check(needs="bounded_pages")
async def entries_by_bytes(trial: Trial) -> None:
    """A page ends with the commit by which its bodies have reached `max_bytes` characters."""
    await _fill(trial, (1,) * 10)
    size = [len(row.body) for row in await trial.driver.entries("s", "i1")]
    two, of_run = sum(size[:2]), {"runs": (1, 1), "first": 4}
    expect_equal(await _seqs(trial, max_bytes=1), [1], "one commit, whatever it has")
    expect_equal(await _seqs(trial, max_bytes=two), [1, 2], "as much as two have")
    expect_equal(await _seqs(trial, max_bytes=two + 1), [1, 2, 3], "more than two have")
    expect_equal(await _seqs(trial, max_bytes=sum(size) + 1), list(range(1, 11)), "more than all have")
    expect_equal(await _seqs(trial, max_bytes=two + 1, limit=2), [1, 2], "the limit still holds")
    expect_equal(await _seqs(trial, max_bytes=1, newest_first=True), [10], "the newest")
    expect_equal(await _seqs(trial, max_bytes=size[3] + 1, **of_run), [4, 5], "of a run, from 4")


@area.check(needs="bounded_pages")
async def large_entries_by_bytes(trial: Trial) -> None:
    """The same for commits of all sizes, what is not ASCII counted as UTF-8, in pages one after the other."""
    sizes = [10] * 18 + [500_000, 10, 500_000] + [10] * 20 + [500_000, 500_000, 10, 500_000]
    for seq, size in enumerate(sizes):
        await _append(trial, append_of("s", seq, runs=(1 + seq % 2,), text="é" * (size // 2)))
    rows = await trial.driver.entries("s", "i1")
    bytes_of = {row.seq: len(row.body.encode()) for row in rows}
    expect_equal(len(rows), len(sizes), "all commits")
    for span in ({}, {"newest_first": True}, {"runs": (1, 1)}, {"runs": (1, 2), "newest_first": True}, {"last": 40}):
        wanted = await _seqs(trial, **span)
        for most in (100_000, 1_100_000):
            left, page = most, list[int]()
            for seq in wanted:
                page.append(seq)
                left -= bytes_of[seq]
                if left <= 0:
                    break
            expect_equal(await _seqs(trial, max_bytes=most, **span), page, f"the first {most} bytes of {span}")
    seen: list[int] = []
    while page := await _seqs(trial, first=len(seen) + 1, max_bytes=700_000):
        expect(sum(bytes_of[seq] for seq in page[:-1]) < 700_000, "a page goes on although it has its bytes")
        seen += page
    expect_equal(seen, [row.seq for row in rows], "all pages")


@area.check()
async def entries_by_run(trial: Trial) -> None:
    """Commits of a range of runs, wherever they lie in the log; commits without a run never match."""
    await _fill(trial, (0, 1, 2, 1, 0, 3, 2, 4))
    expect_equal(await _seqs(trial, runs=(1, 1)), [2, 4], "run 1")
    expect_equal(await _seqs(trial, runs=(2, 3)), [3, 6, 7], "runs 2 to 3")
    expect_equal(await _seqs(trial, runs=(2, 3), newest_first=True), [7, 6, 3], "runs 2 to 3, newest first")
    expect_equal(await _seqs(trial, runs=(2, 3), limit=2), [3, 6], "the first 2 of runs 2 to 3")
    expect_equal(await _seqs(trial, runs=(2, 3), limit=1, newest_first=True), [7], "the last of runs 2 to 3")
    expect_equal(await _seqs(trial, runs=(1, 2), first=3, last=6), [3, 4], "runs 1 to 2 between 3 and 6")
    expect_equal(await _seqs(trial, runs=(0, 9)), [2, 3, 4, 6, 7, 8], "runs 0 to 9")
    expect_equal(await _seqs(trial, runs=(0, 0)), [], "run 0")
    expect_equal(await _seqs(trial, runs=(5, 9)), [], "runs that do not exist")


@area.check()
async def entries_of_one_incarnation(trial: Trial) -> None:
    """Entries of another incarnation, and of other sessions, are not there."""
    await _fill(trial, (1, 1))
    await _fill(trial, (1, 1, 1), "s2")
    expect_equal(await trial.driver.entries("s", "other"), [], "entries of another incarnation")
    expect_equal(await _seqs(trial), [1, 2], "entries of the first session")
    expect_equal(await _seqs(trial, runs=(1, 1)), [1, 2], "run 1 of the first session")


# ---------------------------------------------------------------- deadlines


@area.check()
async def a_deadline_that_has_passed(trial: Trial) -> None:
    """Whatever begins after its deadline is `DeadlineError`, with nothing written; so nothing waits without end."""
    await _append(trial, append_of())
    over = Deadline(0)
    calls: dict[str, tuple[Any, ...]] = {
        "load": ("s", 1),
        "append": (append_of(expected=1),),
        "entries": ("s", "i1", Span()),
        "list": (ListQuery(),),
        "get_record": ("s", "i1", "k"),
        "put_record": ("s", "i1", "k", b"x"),
        "delete": ("s", "i1"),
    }
    for name, arguments in calls.items():
        error = await expect_error(DeadlineError, trial.driver.call(name, *arguments, deadline=over), name)
        expect_equal(error.written, "no", f"what the error of {name} says of the write")
    await _expect_stored(trial, append_of())
    expect_equal(await trial.driver.get_record("s", "i1", "k"), None, "a record that was refused")


# ---------------------------------------------------------------- delete and records


@area.check()
async def delete_removes_everything(trial: Trial) -> None:
    """Session, log and records go; a session of the same id and even the same incarnation begins empty."""
    await _fill(trial, (0, 1, 2))
    await trial.driver.put_record("s", "i1", "lease/1", b"x")
    await _append(trial, append_of("other"))
    await trial.driver.delete("s", "i1")
    expect_equal(await trial.driver.load("s", 5), None, "load after delete")
    expect_equal(await trial.driver.entries("s", "i1"), [], "entries after delete")
    expect_equal(await trial.driver.entries("s", "i1", runs=(1, 2)), [], "entries by run after delete")
    expect_equal(await trial.driver.get_record("s", "i1", "lease/1"), None, "a record after delete")
    await expect_listed(trial, ["other"])
    await _append(trial, append_of())
    expect_equal(await _seqs(trial), [1], "the log of a session that was made again")
    expect_equal(await trial.driver.get_record("s", "i1", "lease/1"), None, "a record of a session made again")


@area.check()
async def delete_is_idempotent(trial: Trial) -> None:
    """Deleting what is not there is no error."""
    await trial.driver.delete("s", "i1")
    await _append(trial, append_of())
    await trial.driver.delete("s", "i1")
    await trial.driver.delete("s", "i1")
    expect_equal(await trial.driver.load("s"), None, "load after delete")


@area.check()
async def delete_compares_the_incarnation(trial: Trial) -> None:
    """Deleting an old incarnation leaves the new session, its log and its records alone."""
    await _append(trial, append_of(incarnation="new"))
    await trial.driver.put_record("s", "new", "k", b"kept")
    await trial.driver.delete("s", "old")
    await _expect_stored(trial, append_of(incarnation="new"))
    expect_equal(await trial.driver.get_record("s", "new", "k"), b"kept", "a record of another incarnation")


@area.check()
async def records_are_kept(trial: Trial) -> None:
    """Any bytes under any key; the last write wins; None removes."""
    await _append(trial, append_of())
    expect_equal(await trial.driver.get_record("s", "i1", "k"), None, "a record that was never written")
    for value in (b"first", b"", bytes(range(256)), b"x" * 70_000):
        expect(await trial.driver.put_record("s", "i1", "k", value), "put_record on a session that is there is True")
        expect_equal(await trial.driver.get_record("s", "i1", "k"), value, "a record")
    for number, key in enumerate(HOSTILE_IDS):
        await trial.driver.put_record("s", "i1", key, str(number).encode())
    for number, key in enumerate(HOSTILE_IDS):
        expect_equal(await trial.driver.get_record("s", "i1", key), str(number).encode(), f"record {key!r}")
    await trial.driver.put_record("s", "i1", "k", None)
    await trial.driver.put_record("s", "i1", "k", None)
    expect_equal(await trial.driver.get_record("s", "i1", "k"), None, "a record that was removed")


@area.check()
async def records_belong_to_one_incarnation(trial: Trial) -> None:
    """Where there is no such incarnation nothing is written, and the answer is False."""
    expect(not await trial.driver.put_record("s", "i1", "k", b"x"), "put_record without a session is False")
    await _append(trial, append_of())
    expect_equal(await trial.driver.get_record("s", "i1", "k"), None, "a record that was refused")
    expect(not await trial.driver.put_record("s", "old", "k", b"x"), "put_record on another incarnation is False")
    expect_equal(await trial.driver.get_record("s", "old", "k"), None, "a record of another incarnation")
    expect_equal(await trial.driver.get_record("s", "i1", "k"), None, "a record that was refused")


@area.check()
async def records_change_no_revision(trial: Trial) -> None:
    """Writing a record is not a commit."""
    await _append(trial, append_of())
    await trial.driver.put_record("s", "i1", "k", b"x")
    await _expect_stored(trial, append_of())


@area.check()
async def records_of_the_declared_size(trial: Trial) -> None:
    """A record as large as `max_record_bytes` says is taken (tried up to 32 MiB)."""
    await _append(trial, append_of())
    value = bytes(range(256)) * (min(trial.capabilities.max_record_bytes, 32 * 2**20) // 256)
    expect(await trial.driver.put_record("s", "i1", "k", value), "a large record is taken")
    expect(await trial.driver.get_record("s", "i1", "k") == value, "a large record comes back whole")


# ---------------------------------------------------------------- lists, for this module and others


async def expect_listed(trial: Trial, wanted: list[str], *, any_order: bool = False, **query: Any) -> None:
    """A list has these sessions, and `count` says so too; lists that may lag are given time."""

    async def listed() -> list[str]:
        ids = [row.session_id for row in await trial.driver.list(**query)]
        return sorted(ids) if any_order else ids

    wanted = sorted(wanted) if any_order else wanted
    if not trial.capabilities.exact_order:

        async def caught_up() -> bool:
            return await listed() == wanted

        await trial.until(caught_up, f"list({query}) shows {wanted}")
    expect_equal(await listed(), wanted, f"list({query})")
    if "after" not in query and "limit" not in query:
        expect_equal(await trial.driver.count(**query), len(wanted), f"count({query})")
