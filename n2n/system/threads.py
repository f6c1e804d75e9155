"""Work beside the main thread: an iterator run ahead of who asks for its items, a consumer run behind who gives them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Closed(BaseException):  # no Exception: what handles errors on its way must let it pass
    """The other end of a channel has gone."""


class Channel(Generic[T]):
    """A queue from one thread to another that holds few items, and that both may end.

    Args:
        most: items in it at a time; at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Hand over an item; wait while there is no room.

        Raises:
            Closed: if nothing more is wanted.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._most)
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes; an error is raised where the next item would be asked for."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Let both sides go: what is on its way is dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Give the items in order, waiting for each.

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
            del item  # not held while the next one is waited for


def _start(thread: threading.Thread, channel: Channel[T]) -> None:
    try:
        thread.start()
    except BaseException:  # an interrupt while it was waited for: the thread may run already
        channel.close()
        raise


class Ahead(Generic[T]):
    """An iterator that a thread runs ahead; a context manager, at whose end the thread has stopped.

    The errors of the iterator are raised where its next item would be. A generator is closed in the thread that ran it.

    Args:
        items: what to iterate over.
        most: finished items that wait, besides the one at hand and the one being made.
    """

    def __init__(self, items: Iterable[T], most: int = 1) -> None:
        self._channel: Channel[T] = Channel(most)
        self._given = iter(self._channel)
        self._thread = threading.Thread(target=self._run, args=(items,), name="ahead")

    def _run(self, items: Iterable[T]) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                self._channel.put(item)
                del item
        except Closed:
            pass
        except BaseException as found:  # whatever it is, it belongs to who asked for the items
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


class Behind(Generic[T]):
    """A function that a thread runs over items that are given to it one by one; a context manager.

    Where its body ends, all items have been worked on; where it raises, those on their way are dropped, the function's
    iterator raises :class:`Closed`, and the thread has stopped.

    Args:
        consume: takes the iterator of the items.
        most: items that wait.
    """

    def __init__(self, consume: Callable[[Iterator[T]], object], most: int = 1) -> None:
        self._channel: Channel[T] = Channel(most)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(consume,), name="behind")

    def _run(self, consume: Callable[[Iterator[T]], object]) -> None:
        try:
            consume(iter(self._channel))
        except Closed:
            pass
        except BaseException as found:  # whatever it is, it belongs to who gave the items
            self._error = found
        self._channel.close()

    def put(self, item: T) -> None:
        """Hand over an item; wait while there is no room.

        Raises:
            Exception: what the function raised; :class:`Closed` if it returned before its iterator ended.
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
            # Also when the wait was interrupted.
            self._channel.close()
            self._thread.join()
        if kind is None and self._error is not None:
            raise self._error
