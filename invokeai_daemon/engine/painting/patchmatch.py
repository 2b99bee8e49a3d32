"""PatchMatch: a hole filled with what looks like its surroundings (Barnes et al. 2009, Wexler et al. 2007).

From coarse to fine, each patch that touches the hole finds a patch of what is visible that is like it, and the pixels
of the hole become the mean of what the patches over them propose. Called by `infill.py`; knows no torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Values = npt.NDArray[np.float32]
Where = npt.NDArray[np.bool_]
#: Rows and columns, [n, 2].
Places = npt.NDArray[np.int64]

#: Pixels from the middle of a patch to its sides: patches are 5 × 5.
REACH = 2
PATCH = np.array([(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)])
SIDES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
#: Coarser pictures are made until a side has fewer pixels than this, or the hole is gone.
COARSEST = 24
#: Rounds of searching and mixing in the coarsest picture; in each finer one it is one less, down to the fewest.
MOST_ROUNDS, FEWEST_ROUNDS = 8, 2
#: With more patches than this, what the coarser picture found is taken over without a search. It bounds the time.
SEARCHED = 25_000
#: How much less a patch counts for each pixel that it lies deeper in the hole.
CONFIDENCE = 1.3


def patchmatch(picture: Values, hole: Where, seed: int) -> Values:
    """A picture, [height, width, 3], with its hole filled. Something must be visible. Equal for equal seeds."""
    rng = np.random.default_rng(seed)
    guess: Values | None = None
    found: npt.NDArray[np.int64] | None = None
    rounds = MOST_ROUNDS
    for pixels, gap in _coarse_to_fine(picture, hole):
        before = _nearest(pixels, gap) if guess is None else _enlarged(guess, gap.shape)
        level = _Level(np.where(gap[..., None], before, pixels), gap, rng)
        if level.can_be_filled:
            found = level.fill(found, rounds)
        guess, rounds = level.pixels, max(FEWEST_ROUNDS, rounds - 1)
    assert guess is not None
    return guess


class _Level:
    """The picture at one size. `pixels` gets better with each round."""

    def __init__(self, pixels: Values, gap: Where, rng: np.random.Generator) -> None:
        self.pixels, self.gap, self.rng = pixels, gap, rng
        height, width = self.shape = gap.shape
        inside = np.zeros_like(gap)
        inside[REACH : height - REACH, REACH : width - REACH] = True
        touching = ndimage.binary_dilation(gap, np.ones((2 * REACH + 1,) * 2, bool))
        #: Whether a patch around this pixel is visible as a whole.
        self.is_source = ~touching & inside
        #: Middles of the patches that touch the hole, and of those that can be put there.
        self.targets: Places = np.argwhere(touching & inside)
        self.sources: Places = np.argwhere(self.is_source)
        depth = ndimage.distance_transform_edt(gap)
        self.trust = CONFIDENCE ** -depth[self.targets[:, 0], self.targets[:, 1]]
        #: The number of the target around this pixel; −1 where there is none.
        self.number = np.full(self.shape, -1)
        self.number[self.targets[:, 0], self.targets[:, 1]] = np.arange(len(self.targets))

    @property
    def can_be_filled(self) -> bool:
        return bool(len(self.targets) and len(self.sources))

    def fill(self, coarser: npt.NDArray[np.int64] | None, rounds: int) -> npt.NDArray[np.int64]:
        """Search and mix. Takes and returns what was found: for each pixel the middle of a source, or −1."""
        found = self._beginning(coarser)
        is_searched = len(self.targets) <= SEARCHED
        for _ in range(rounds if is_searched else 1):
            wanted = self._patches(self.targets)
            distance = self._distances(wanted, found)
            if is_searched:
                for candidates, of in self._candidates(found, is_first=coarser is None):
                    nearer = self._distances(wanted[of], candidates)
                    better = nearer < distance[of]
                    found[of[better]], distance[of[better]] = candidates[better], nearer[better]
            self._mix(found, distance)
        everywhere = np.full((*self.shape, 2), -1)
        everywhere[self.targets[:, 0], self.targets[:, 1]] = found
        return everywhere

    def _beginning(self, coarser: npt.NDArray[np.int64] | None) -> Places:
        """For each target a source: what the coarser picture found, else any."""
        found = self.sources[self.rng.integers(len(self.sources), size=len(self.targets))]
        if coarser is None:
            return found
        # At the edges of the picture, the middle of a patch may lie in what is one pixel nearer to the edge.
        above = (self.targets // 2).clip(REACH, np.array(coarser.shape[:2]) - 1 - REACH)
        told = coarser[above[:, 0], above[:, 1]]
        moved = 2 * told + self.targets - 2 * above
        usable = (told[:, 0] >= 0) & self._are_sources(moved)
        return np.where(usable[:, None], moved, found)

    def _candidates(self, found: Places, is_first: bool) -> Iterator[tuple[Places, npt.NDArray[np.int64]]]:
        """Sources that may be better than what was found, and for which targets: what neighbours found, as far aside
        as they are; and any around the own, nearer and nearer.
        """
        for step in (8, 4, 2, 1) if is_first else (2, 1):
            for side in step * SIDES:
                beside = (self.targets + side).clip(0, np.array(self.shape) - 1)
                neighbour = self.number[beside[:, 0], beside[:, 1]]
                of = np.flatnonzero(neighbour >= 0)
                yield self._usable(found[neighbour[of]] - side, of)
        reach = max(self.shape) // (1 if is_first else 8)
        while reach >= 1:
            moved = found + self.rng.integers(-reach, reach + 1, size=found.shape)
            yield self._usable(moved, np.arange(len(found)))
            reach //= 2

    def _usable(self, candidates: Places, of: npt.NDArray[np.int64]) -> tuple[Places, npt.NDArray[np.int64]]:
        usable = self._are_sources(candidates)
        return candidates[usable], of[usable]

    def _are_sources(self, places: Places) -> Where:
        y, x = places.clip(0, np.array(self.shape) - 1).T
        return np.asarray(self.is_source[y, x] & (places == np.stack([y, x], axis=1)).all(axis=1))

    def _patches(self, middles: Places) -> Values:
        """The pixels around some places, [n, pixels of a patch, 3]."""
        return np.stack([self._at(middles + step) for step in PATCH], axis=1)

    def _distances(self, wanted: Values, middles: Places) -> Values:
        """How far the patches around some places are from the wanted ones: squares of differences, summed up."""
        total = np.zeros(len(middles), np.float32)
        for index, step in enumerate(PATCH):
            away = self._at(middles + step) - wanted[:, index]
            total += np.einsum("nc,nc->n", away, away)
        return total

    def _at(self, places: Places) -> Values:
        return np.asarray(self.pixels.reshape(-1, 3)[places[:, 0] * self.shape[1] + places[:, 1]])

    def _mix(self, found: Places, distance: Values) -> None:
        """Every pixel of the hole becomes the mean of what the patches over it propose; likely ones count more."""
        usual = float(np.percentile(distance, 75)) + 1e-6
        weights = (self.trust * np.exp(-distance / (2 * usual))).astype(np.float32)
        total = np.zeros((*self.shape, 3), np.float32)
        weight = np.zeros(self.shape, np.float32)
        for step in PATCH:
            y, x = (self.targets + step).T
            # All of them are different, so that nothing is lost where indices would meet.
            total[y, x] += weights[:, None] * self._at(found + step)
            weight[y, x] += weights
        told = self.gap & (weight > 0)
        self.pixels = self.pixels.copy()
        self.pixels[told] = total[told] / weight[told][:, None]


def _coarse_to_fine(picture: Values, hole: Where) -> list[tuple[Values, Where]]:
    """The picture and its hole at half the size, again and again; the smallest first."""
    levels = [(picture, hole)]
    while min(levels[0][1].shape) >= 2 * COARSEST:
        pixels, gap = _halved(*levels[0])
        if not gap.any():
            break
        levels.insert(0, (pixels, gap))
    return levels


def _halved(pixels: Values, gap: Where) -> tuple[Values, Where]:
    """Each pixel the mean of four, as far as they are visible."""
    seen = (~gap).astype(np.float32)
    count = _sum_of_four(seen)
    mean = _sum_of_four(pixels * seen[..., None]) / np.maximum(count, 1)[..., None]
    return mean.astype(np.float32), count == 0


def _sum_of_four(values: Values) -> Values:
    height, width = (side - side % 2 for side in values.shape[:2])
    even = values[:height, :width]
    return np.asarray(even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2])


def _enlarged(pixels: Values, shape: tuple[int, ...]) -> Values:
    rows, columns = (
        np.minimum(np.arange(side) // 2, have - 1) for side, have in zip(shape, pixels.shape, strict=False)
    )
    return np.asarray(pixels[rows][:, columns])


def _nearest(pixels: Values, gap: Where) -> Values:
    """Each pixel the nearest visible one."""
    rows, columns = ndimage.distance_transform_edt(gap, return_distances=False, return_indices=True)
    return np.asarray(pixels[rows, columns])
