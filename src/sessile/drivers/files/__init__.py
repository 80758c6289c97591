"""JSON and YAML files: a folder that a person can read, search and put under version control.

    sessions/capitals-4kq…/head.json       the session as it is now
    sessions/capitals-4kq…/log.jsonl       its commits, one a line
    sessions/capitals-4kq…/records/        leases and media
    .sessile/                              locks and the index of lists: nothing that could not be rebuilt

**The claim of a commit is its line in the log**: written once, at the end, and synchronised before it is acknowledged.
The head is replaced after it (a new file under a passing name, then a rename), and says up to where the log is
acknowledged. So what follows the revision of the head is either being written at this moment, by who holds the lock of
the session; or its writer is gone, and who takes the lock next rolls the head forward over what is whole, and cuts off
what is not. What the head covers is never cut: damage in it is reported, with file and line.

Heads are not synchronised: after a power cut one may be old, empty or missing, and is rebuilt from the log.
"""

from .storage import JsonStorage, YamlStorage

__all__ = ["JsonStorage", "YamlStorage"]
