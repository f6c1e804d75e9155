"""Work in a thread beside the caller: an iterator that runs ahead, a consumer that follows behind."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Closed(BaseException):  # so that ``except Exception`` does not swallow it
    """The other end of a channel has stopped."""


class Channel(Generic[T]):
    """A queue from one thread to another, which both can end.

    Args:
        most: items that it holds, at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add an item; wait while the queue is full.

        Raises:
            Closed: if the channel was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._most)
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """End the items; the reader gets the error, if there is one, in place of a next item."""
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
        """Yield the items in order, waiting for each.

        Raises:
            Closed: if the channel was closed.
        """
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


def _start(thread: threading.Thread, channel: Channel[T]) -> None:
    try:
        thread.start()
    except BaseException:  # an interrupt: the thread may be running already
        channel.close()
        raise


class Prefetch(Generic[T]):
    """Runs an iterator ahead in a thread; a context manager, at whose end the thread has stopped.

    An error of the iterator is raised in place of its next item. A generator is closed in the thread that ran it.

    Args:
        items: what to iterate over.
        most: finished items that wait, besides the item in use and the one that is being made.
    """

    def __init__(self, items: Iterable[T], most: int = 1) -> None:
        self._channel: Channel[T] = Channel(most)
        self._given = iter(self._channel)
        self._thread = threading.Thread(target=self._run, args=(items,), name="prefetch")

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

    def __enter__(self) -> Self:
        _start(self._thread, self._channel)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._thread.join()


class WriteBehind(Generic[T]):
    """Runs a function in a thread over items that are put one by one; a context manager.

    At the end of the body it waits until all items are processed. If the body raises, waiting items are dropped, the
    function's iterator raises :class:`Closed`, and the thread has stopped.

    Args:
        consume: takes the iterator over the items.
        most: items that wait.
    """

    def __init__(self, consume: Callable[[Iterator[T]], object], most: int = 1) -> None:
        self._channel: Channel[T] = Channel(most)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(consume,), name="write behind")

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

    def __enter__(self) -> Self:
        _start(self._thread, self._channel)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._channel.end()
                self._thread.join()
        finally:
            # Also if the wait was interrupted.
            self._channel.close()
            self._thread.join()
        if kind is None and self._error is not None:
            raise self._error
