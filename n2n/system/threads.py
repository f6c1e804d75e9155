"""Work in a second thread: an iterator that runs ahead of the caller, or a consumer that runs behind."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class Closed(BaseException):  # so that ``except Exception`` does not swallow it
    """The other end of a channel has stopped."""


class Channel(Generic[T]):
    """A queue of at most ``most`` items from one thread to another, which both can end."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add an item; wait while the queue is full. Raises Closed if the channel is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._most)
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """End the items; if there is an error, the reader gets it in place of the next item."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Stop both sides; items in the queue are dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Yield the items in order, waiting for each. Raises Closed if the channel is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._ended or bool(self._items))
                if self._closed:
                    raise Closed
                if self._items:
                    item = self._items.popleft()
                    self._changed.notify_all()
                elif self._error is not None:
                    raise self._error
                else:
                    return
            yield item
            del item  # free it while waiting for the next one


class _Worker(Generic[T]):
    """A thread at one end of a channel; a context manager."""

    def __init__(self, run: Callable[[Any], None], argument: object, most: int, name: str) -> None:
        self._channel: Channel[T] = Channel(most)
        self._thread = threading.Thread(target=run, args=(argument,), name=name)

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except BaseException:  # an interrupt: the thread may be running already
            self._channel.close()
            raise
        return self

    def _stop(self) -> None:
        self._channel.close()
        self._thread.join()


class Prefetch(_Worker[T]):
    """Runs an iterator ahead in a thread, which stops at the end of the context.

    An error of the iterator is raised in place of its next item. A generator is closed in the thread that ran it.

    Args:
        items: what to iterate over.
        most: finished items that wait, besides the item in use and the next one.
    """

    def __init__(self, items: Iterable[T], most: int = 1) -> None:
        super().__init__(self._run, items, most, "prefetch")
        self._given = iter(self._channel)

    def _run(self, items: Iterable[T]) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                self._channel.put(item)
                del item
        except Closed:
            pass
        except BaseException as found:  # raised again in the caller's thread
            error = found
        if isinstance(items, Generator):
            items.close()
        self._channel.end(error)

    def __iter__(self) -> Iterator[T]:
        return self._given

    def __exit__(self, *_: object) -> None:
        self._stop()


class WriteBehind(_Worker[T]):
    """Runs a function in a thread over items that are put one by one.

    The end of the context waits until all items are processed. If the body raises, waiting items are dropped, the function's
    iterator raises :class:`Closed`, and the thread stops.

    Args:
        consume: takes the iterator over the items.
        most: items that wait.
    """

    def __init__(self, consume: Callable[[Iterator[T]], object], most: int = 1) -> None:
        super().__init__(self._run, consume, most, "write behind")
        self._error: BaseException | None = None

    def _run(self, consume: Callable[[Iterator[T]], object]) -> None:
        try:
            consume(iter(self._channel))
        except Closed:
            pass
        except BaseException as found:  # raised again in the caller's thread
            self._error = found
        self._channel.close()

    def put(self, item: T) -> None:
        """Add an item; wait while the queue is full.

        Raises:
            Exception: the error of the function; :class:`Closed` if it returned before the last item.
        """
        try:
            self._channel.put(item)
        except Closed:
            if self._error is not None:
                raise self._error from None
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._channel.end()
                self._thread.join()
        finally:  # also if the wait was interrupted
            self._stop()
        if kind is None and self._error is not None:
            raise self._error
