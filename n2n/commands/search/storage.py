"""The database of a search, which its processes share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from n2n.errors import InputError, reason

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

# Times to try to open a database whose tables another process may be creating.
_ATTEMPTS = 6


@contextlib.contextmanager
def storage_errors(url: str, more: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn the errors of a storage, and ``more``, into InputError, without the password of the URL."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    shown = url.rpartition("@")[2]
    kinds: tuple[type[Exception], ...] = (SQLAlchemyError, StorageInternalError, *more)
    try:
        yield
    except kinds as error:
        why = reason(error.__cause__ if isinstance(error.__cause__, Exception) else error).replace(url, shown)
        raise InputError(f"the storage {shown} cannot be used: {why}") from None


def open_storage(url: str, grace: int) -> RDBStorage:
    """Open the database of a search.

    Args:
        url: of SQLite, PostgreSQL or MySQL, as SQLAlchemy writes it. The folder of a SQLite file is created.
        grace: seconds without a heartbeat after which a process counts as dead and its trial is queued again.

    Raises:
        InputError: if the database cannot be opened.
    """
    import sqlalchemy
    from optuna.storages import RDBStorage

    from n2n.commands.search.attempts import retry

    if "://" not in url:
        raise InputError(
            f"--storage is {url!r}: expected a URL such as sqlite:///study.db or postgresql+psycopg://USER@HOST/DATABASE"
        )
    # A server may close idle connections during a long epoch.
    engine: dict[str, Any] = {"pool_pre_ping": True}
    sqlite = url.startswith("sqlite")
    if sqlite:
        # SQLite itself waits 5 s for other processes.
        engine["connect_args"] = {"timeout": 60}
    with storage_errors(url, (ImportError, OSError, ValueError)):
        if sqlite and (path := url.partition("///")[2]):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            try:
                storage = RDBStorage(
                    url,
                    engine,
                    heartbeat_interval=max(1, grace // 6),
                    grace_period=grace,
                    heartbeat_stale_trial_callback=retry,
                )
                break
            except sqlalchemy.exc.SQLAlchemyError:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.5)
    if sqlite:
        # SQLite locks no rows: without this, two processes could take the same trial from the queue.
        sqlalchemy.event.listen(storage.engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage
