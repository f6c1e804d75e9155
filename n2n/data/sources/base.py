"""What a source of pairs is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from n2n.errors import InputError

if TYPE_CHECKING:
    from n2n.data.stores.base import Store


@runtime_checkable
class PairSource(Protocol):
    """Gives the pairs to train on and the pairs to validate on.

    A class of your own with these two methods is chosen by its import path (``class_path``), with no registration. Both
    raise :class:`n2n.errors.InputError` for what the user can mend. What has to be made first (files in a cache, say) is
    made by the first call: one process a machine calls before the others do.
    """

    def train_pairs(self) -> Store:
        """Open the training pairs: two noisy views of each image."""

    def val_pairs(self) -> Store:
        """Open what to validate on: a noisy view of each image, and the clean image or another noisy view, or both."""


@runtime_checkable
class HasCleanTargets(PairSource, Protocol):
    """A source that can give its training pairs with the clean images, to compare noisy targets with clean ones."""

    def clean_train_pairs(self) -> Store:
        """Open the pairs that ``train_pairs`` gives, with their clean images: two noisy views and the clean image of each."""


def check_seed(seed: int) -> None:
    """Refuse the seed of a source that no generator takes.

    Raises:
        InputError: if it is one.
    """
    if seed < 0:
        raise InputError(f"the source's seed is {seed}: expected at least 0")
