"""Work in a thread beside its caller, one piece after the other."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread


class Behind:
    """Does one piece of work after the other in a thread, the newest one beside its caller."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._failed: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether there is work that has not been waited for."""
        return self._thread is not None

    def do(self, work: Callable[[Callable[[], object]], object]) -> None:
        """Begin with this, once the piece before is done; raises what that one has raised.

        Returns when the work calls what it is given: what it does from then on leaves the interpreter to others. Else
        both threads would wait for each other with every row.
        """
        self.wait()
        free = Event()

        def doing() -> None:
            try:
                work(free.set)
            except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
                self._failed = error
            finally:
                free.set()

        self._thread = Thread(target=doing, name="sessile-index", daemon=True)
        self._thread.start()
        free.wait()

    def wait(self) -> None:
        """Wait for the newest piece of work; raises what it has raised."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
