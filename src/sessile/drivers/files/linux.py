"""Two calls of Linux that Python has no names for. Where they are not, the ways that every system has are taken.

`exchange`: ext4 begins to write a file's data when it takes another one's name, allocates blocks for it and frees those
of the other; of two files that change their names it does neither (mount option auto_da_alloc, man page ext4(5)).
`begin_writing`: what `fdatasync` waits for is on its way already when it is called.
"""

from __future__ import annotations

import errno
import os
import sys
from functools import lru_cache
from typing import Any

_EXCHANGE = 2
"""RENAME_EXCHANGE, man page rename(2)."""

_WRITE = 2
"""SYNC_FILE_RANGE_WRITE, man page sync_file_range(2)."""

_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
"""What a kernel or a file system says that does not know how, and a sandbox that lets nobody call this."""


@lru_cache(maxsize=1)
def _calls() -> tuple[Any, Any]:
    """`renameat2` and `sync_file_range`; None for one that is not there. `ctypes` is loaded when it is needed."""
    if sys.platform != "linux":
        return None, None
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        number, name, offset = ctypes.c_int, ctypes.c_char_p, ctypes.c_int64
        exchange, begin = getattr(libc, "renameat2", None), getattr(libc, "sync_file_range", None)
    except (ImportError, OSError):
        return None, None
    if exchange is not None:
        exchange.argtypes = [number, name, number, name, ctypes.c_uint]
    if begin is not None:
        begin.argtypes = [number, offset, offset, ctypes.c_uint]
    return exchange, begin


def exchange(folder: int, one: str, other: str) -> bool:
    """Let two files of an open folder change their names in one step; False where that cannot be done."""
    call = _calls()[0]
    if call is None:
        return False
    if call(folder, os.fsencode(one), folder, os.fsencode(other), _EXCHANGE) == 0:
        return True
    import ctypes

    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), one, None, other)


def begin_writing(file: int, offset: int, size: int) -> None:
    """Let the system begin to write a part of a file to the disk, and wait for nothing. What goes wrong shows later."""
    call = _calls()[1]
    if call is not None:
        call(file, offset, size, _WRITE)
