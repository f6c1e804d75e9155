"""Interface of the sources of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from n2n.errors import InputError

if TYPE_CHECKING:
    from n2n.data.stores.base import Store


@runtime_checkable
class PairSource(Protocol):
    """Gives the pairs to train on and the pairs to validate on.

    Any class with these two methods can be a source. It is chosen by its import path (``class_path``) and needs no
    registration; with this class as its base, also by its name alone. Both methods raise :class:`n2n.errors.InputError` for
    mistakes that the user can correct. The first call makes missing files, such as those of a cache: on each machine one
    process calls before the others do.
    """

    def train_pairs(self) -> Store:
        """Open the training pairs: two noisy views of each image."""

    def val_pairs(self) -> Store:
        """Open the validation pairs: a noisy view of each image, with a clean image, another noisy view, or both."""


@runtime_checkable
class HasCleanTargets(PairSource, Protocol):
    """A source that can add clean images to its training pairs, to compare noisy targets with clean ones."""

    def clean_train_pairs(self) -> Store:
        """Open the pairs of ``train_pairs`` with their clean images: two noisy views and the clean image of each."""


def check_seed(seed: int) -> None:
    """Raise InputError for a negative seed, which random number generators refuse."""
    if seed < 0:
        raise InputError(f"the source's seed is {seed}: expected at least 0")
