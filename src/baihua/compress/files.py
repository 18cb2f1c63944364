"""Files that appear when they are complete, never half."""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(file: Path) -> Generator[Path]:
    """A path to write to, which becomes `file` at the end and is gone after an error.

    The data is on the disk before the file has its name: after a power cut a file of that name is whole.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    except OSError as error:
        if error.errno is None:
            # numpy says only how many numbers it could not write.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)
