"""Work in a thread beside its caller, one piece after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Event, Thread

Work = Callable[[Callable[[], object]], object]


class Behind:
    """Does one piece of work after the other in a thread, the newest ones beside its caller.

    Args:
        waiting: how many pieces may wait for the one that is being done.
    """

    def __init__(self, waiting: int = 0) -> None:
        self._waiting = waiting
        self._pieces: deque[tuple[Work, Event]] = deque()
        self._changed = Condition()
        self._thread: Thread | None = None
        self._failed: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether there is work that has not been waited for, or has failed, which nobody has been told yet."""
        with self._changed:
            return self._thread is not None or self._failed is not None

    def do(self, work: Work) -> None:
        """Have this done after the pieces before it, as soon as not too many of them wait; raises what one has raised.

        What stands behind a piece that has failed is not done. Where none may wait, this returns when the work calls
        what it is given: what it does from then on leaves the interpreter to others. Else both threads would wait for
        each other with every row.
        """
        if self._waiting == 0:
            self.wait()
        free = Event()
        with self._changed:
            self._changed.wait_for(lambda: self._failed is not None or len(self._pieces) <= self._waiting)
            if self._failed is None:
                self._begin((work, free))
        if self._failed is not None:
            self.wait()
        if self._waiting == 0:
            free.wait()

    def _begin(self, piece: tuple[Work, Event]) -> None:
        """Have a piece done after those before it; nothing waits for a thread that could not be started."""
        self._pieces.append(piece)
        if self._thread is None:
            self._thread = Thread(target=self._work, name="sessile-index", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # there are too many, or the interpreter is ending
                self._thread = None
                self._pieces.pop()
                raise

    def _work(self) -> None:
        """Do what there is. A piece stands in its place until it is done."""
        while True:
            with self._changed:
                if not self._pieces:
                    self._thread = None
                    self._changed.notify_all()
                    return
                work, free = self._pieces[0]
            failed: BaseException | None = None
            try:
                work(free.set)
            except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
                failed = error
            free.set()
            with self._changed:
                self._pieces.popleft()
                if failed is not None:
                    self._failed = failed
                    self._pieces.clear()
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait for all that there is to do; raises what a piece has raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None)
            failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
