"""The comparison of a network with classical filters, on held-out images, with or without clean ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from n2n.data.batch import Batch
from n2n.metrics import psnr_from_mse, squared_error_per_image
from n2n.trainer.baselines.filters import Filter, Noise, filters

# Pixels to compare in all. Only the centres of the images are compared: squares of at least this side, and larger ones if there
# are few images.
_PIXELS, _SIDE = 2**21, 128
# Most images, spread over all, and most pixels to compare with a slow filter. BM3D takes a minute for these.
_IMAGES, _FEW_PIXELS = 8, 2**19
# Least advantage of a filter over the network, in dB, that a warning names.
_BETTER = 0.1
NETWORK, NOISY = "network", "noisy"


class Comparison(NamedTuple):
    """PSNR in dB over all pixels that were compared, by method.

    Attributes:
        psnr: of all images.
        scenes: of each scene, by its number.
        estimated: whether it is estimated from pairs, because there are no clean images.
    """

    psnr: dict[str, float]
    scenes: dict[int, dict[str, float]]
    estimated: bool


def compare_with_filters(
    batches: Iterable[Batch], network: Callable[[Tensor], Tensor], count: int
) -> Comparison | None:
    """Measure a network, and each classical filter at its best strength, on the same images.

    The best strength is chosen on these images themselves, which favours the filters a little.

    Args:
        batches: to validate on, with clean images, or with pairs that differ by independent noise.
        network: maps N×C×H×W in [0, 1] to the same shape.
        count: number of images in the batches.

    Returns:
        None if the batches have neither.
    """
    available = filters()
    slow = any(one.slow for one in available)
    most, most_pixels = (_IMAGES, _FEW_PIXELS) if slow else (count, _PIXELS)
    side = max(_SIDE, int((most_pixels / max(1, min(count, most))) ** 0.5))
    sums: dict[tuple[str, float], dict[int, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    estimated, pixels, images = False, 0, 0
    for number, batch in enumerate(batches):
        if images >= most:
            break
        if number % max(1, count // len(batch.noisy) // most):
            continue
        views = _centres(batch, side, most - images)
        pairs = views.target is not None and views.independent
        if (views.clean is None and not pairs) or pixels > most_pixels:
            break
        estimated = views.clean is None
        # All methods are compared on the same images.
        too_small = [one.name for one in available if min(views.noisy.shape[-2:]) < one.least]
        available = [one for one in available if one.name not in too_small]
        for key in [key for key in sums if key[0] in too_small]:
            del sums[key]
        # Images that show a scene each are one group: single ones are too small to judge.
        scene = -1 if batch.scene is None else batch.scene
        values = int(views.known.sum()) * views.noisy.shape[1] if views.gaps else views.noisy.numel()
        for name, strength, error in _errors(views, network, available) if values else ():
            total = sums[name, strength][scene]
            total[0] += error * values
            total[1] += values
        pixels += len(views.noisy) * views.noisy[0, 0].numel()
        images += len(views.noisy)
    if not sums:
        return None
    means = {key: sum(t for t, _ in by.values()) / sum(n for _, n in by.values()) for key, by in sums.items()}
    best = {name: min((key for key in means if key[0] == name), key=means.__getitem__) for name, _ in means}
    return Comparison(
        {name: _psnr(means[key]) for name, key in best.items()},
        {
            number: {name: _psnr(sums[key][number][0] / sums[key][number][1]) for name, key in best.items()}
            for number in sums[NETWORK, 0.0]
        },
        estimated,
    )


def _psnr(mse: float) -> float:
    # An estimate may be negative by chance.
    return float(psnr_from_mse(torch.tensor(max(mse, 0.0))))


def _centres(batch: Batch, side: int, most: int) -> Batch:
    """Cut the centres out of a batch's images, of the first ones if there are more than ``most``."""
    top, left = (max(0, size - side) // 2 for size in batch.noisy.shape[-2:])

    def cut(images: Tensor | None) -> Tensor | None:
        return None if images is None else images[:most, :, top : top + side, left : left + side].float()

    noisy = cut(batch.noisy)
    assert noisy is not None
    return batch._replace(noisy=noisy, target=cut(batch.target), clean=cut(batch.clean))


def _errors(
    views: Batch, network: Callable[[Tensor], Tensor], available: list[Filter]
) -> Iterator[tuple[str, float, float]]:
    """Yield method, strength, and the mean squared error over all values that are known."""
    noise = estimate_noise(views)
    fill, known = views.around_network()

    def error(apply: Callable[[Tensor], Tensor]) -> float:
        first, second = views.noisy, views.target
        if views.clean is not None:
            return _squared(known(apply(fill(first))), known(views.clean))
        assert second is not None
        # Unbiased, see BlindPSNR.
        one, other = known(apply(fill(first))), known(apply(fill(second)))
        first, second = known(first), known(second)
        return (_squared(one, second) + _squared(other, first) - float((first - second).square().mean())) / 2

    yield NETWORK, 0.0, error(network)
    yield NOISY, 0.0, error(lambda images: images)
    for one in available:
        for strength in one.strengths:
            yield one.name, strength, error(lambda images, one=one, by=strength: one.apply(images, by, noise))  # type: ignore[misc]


def _squared(denoised: Tensor, reference: Tensor) -> float:
    return float(squared_error_per_image(denoised, reference).mean())


def estimate_noise(views: Batch) -> Noise:
    """Fit the noise of images to a line over their brightness, from the difference of two views or from the clean images."""
    if views.target is not None and views.independent:
        brightness, squares = (views.noisy + views.target) / 2, (views.noisy - views.target).square() / 2
    else:
        assert views.clean is not None
        brightness, squares = views.clean, (views.noisy - views.clean).square()
    # Means over small squares: of single pixels, the brightness would depend on the noise.
    small = [torch.nn.functional.avg_pool2d(x, 4) if min(x.shape[-2:]) >= 16 else x for x in (brightness, squares)]
    x, y = (values.flatten().cpu().double().numpy() for values in small)
    # A square with a pixel without data has none.
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if not len(x):
        return Noise(0.0, 0.0)
    slope, floor = np.polyfit(x, y, 1) if x.std() > 1e-3 else (0.0, float(y.mean()))
    if slope <= 0:
        return Noise(0.0, float(y.mean()))
    return Noise(float(slope), max(float(floor), 0.0))


def describe(found: Comparison, names: Mapping[int, str]) -> list[str]:
    """Return lines for the user.

    Args:
        found: by :func:`compare_with_filters`.
        names: of the scenes, by their numbers.
    """
    ranked = sorted(found.psnr, key=found.psnr.__getitem__, reverse=True)
    how = "estimated from the centres of held-out pairs" if found.estimated else "on the centres of held-out images"
    figures = ", ".join(f"{name} {found.psnr[name]:.2f}" for name in ranked)
    lines = [f"PSNR over all pixels beside classical filters at their best strength, dB, {how}: {figures}."]
    better = {}
    for number, psnr in found.scenes.items():
        others = {name: value for name, value in psnr.items() if name != NETWORK}
        most = max(others, key=others.__getitem__)
        if others[most] > psnr[NETWORK] + _BETTER:
            better[number] = (most, others[most], psnr[NETWORK])
    if ranked[0] != NETWORK:
        lines.append(
            f"Warning: {ranked[0]} is better than the network. Train longer, on more scenes, or on one kind of noise at a time."
        )
    elif better and len(found.scenes) > 1:
        worst = max(better, key=lambda number: better[number][1] - better[number][2])
        name, filtered, network = better[worst]
        lines.append(
            f"Warning: in {len(better)} of {len(found.scenes)} held-out scenes a filter is better than the network, most in "
            f"{names.get(worst, f'number {worst}')}: {name} {filtered:.2f} dB, network {network:.2f}. There the network may "
            "invent structure: train on more scenes of that kind, or train a network for them alone."
        )
    return lines
