"""Rounds weights so that what one column loses is made up for by the columns after it.

GPTQ (arXiv:2210.17323): the columns of a weight are rounded one after the other, and the error
that each leaves in the layer's outputs, for inputs that calibration saw, is taken off the columns
that are still to come. With fewer tokens than columns nothing as large as the Hessian of all
columns is needed. For a block of columns b and all columns R behind it, with the inputs X of n
tokens and a damping d,

    M = X_R X_R' + d I               [n, n]
    d (I + X_b' M^-1 X_b)            the block's Hessian, when R makes up for its errors
    A += M^-1 X_b (W_b - Q_b)'       [n, out]: to R is then added X_R' A

gives what the whole Hessian would. The first two are the same for all that reads these inputs, and
the rows of a weight do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mineru_daemon import cpu
from mineru_daemon.engines.mineru.export.layers import Float

DAMPING = 0.01
"""Share of a column's mean sum of squares; bounds what is made up for, as inputs will differ."""

BLOCK = 256
"""Columns after which all that follow are corrected. GPTQ has 128; each block costs an inverse."""

TOKENS = 320
"""Of the inputs that are looked at, evenly chosen: what a block costs grows with their square."""

PADDING = 128
"""Columns of zeros are added up to a multiple of it; blocks with a step of their own divide it."""

STRIP = 16
"""Columns after which those of the block are; what each of them changes stays in the cache."""


class Rounded(NamedTuple):
    """A weight in whole numbers of steps."""

    levels: Float
    """[out, in], whole numbers."""
    scales: Float
    """Size of a step, [out, groups]."""


def nearest(weight: Float, lowest: int, highest: int, size: int) -> Rounded:
    """Round each number of `weight` [out, in] by itself; else as `Seen.rounded`."""
    rows, columns = weight.shape
    size = min(size, columns)
    groups = np.pad(weight, ((0, 0), (0, -columns % size))).reshape(rows, -1, size)
    steps = _steps(groups, lowest, highest)
    levels = np.clip(np.rint(groups / steps[..., None]), lowest, highest)
    return Rounded(levels.reshape(rows, -1), steps)


def _steps(groups: Float, lowest: int, highest: int) -> Float:
    """Steps by which `groups` [..., columns] just fit between both levels.

    With as many levels on each side, the largest value takes the highest. Otherwise the lowest
    level has no counterpart, and the largest value takes it, and with it the sign of the step.
    """
    if -lowest == highest:
        steps = np.abs(groups).max(axis=-1) / highest
    else:
        place = np.abs(groups).argmax(axis=-1, keepdims=True)
        steps = np.take_along_axis(groups, place, axis=-1)[..., 0] / lowest
    steps[steps == 0] = 1
    made: Float = steps.astype(np.float32)
    return made


class Seen:
    """What a layer was seen to read, made ready for the rounding of its weights."""

    def __init__(self, inputs: Float) -> None:
        """`inputs` float32 [tokens, in]."""
        chosen = np.linspace(0, len(inputs) - 1, min(len(inputs), TOKENS)).astype(np.intp)
        columns = inputs.shape[1]
        inputs = np.pad(inputs[chosen], ((0, 0), (0, -columns % PADDING)))
        # Sums of what is left are taken off again and again: in double precision.
        rest = (inputs @ inputs.T).astype(np.float64)
        damping = DAMPING * (np.trace(rest) / columns or 1.0) * np.eye(len(inputs))
        self._blocks: list[tuple[Float, Float, Float]] = []
        for first in range(0, inputs.shape[1], BLOCK):
            seen = np.ascontiguousarray(inputs[:, first : first + BLOCK])
            rest -= seen @ seen.T
            inverse = np.linalg.inv(rest + damping).astype(np.float32)
            self._blocks.append((seen, inverse @ seen, _factor(seen.T @ inverse @ seen)))

    def rounded(self, weight: Float, lowest: int, highest: int, size: int) -> Rounded:
        """Round `weight` [out, in] to levels from `lowest` to `highest`.

        A step belongs to `size` columns, and is chosen when their turn has come: a multiple of
        `STRIP` that divides `PADDING`, or all columns.
        """
        threads = cpu.granted_threads().intra
        parts = [part for part in np.array_split(weight, threads) if len(part)]
        with ThreadPoolExecutor(threads) as pool:
            made = list(pool.map(lambda part: self._rows(part, lowest, highest, size), parts))
        return Rounded(*(np.concatenate(one) for one in zip(*made, strict=True)))

    def _rows(self, weight: Float, lowest: int, highest: int, size: int) -> Rounded:
        rows, columns = weight.shape
        weight = np.pad(weight, ((0, 0), (0, -columns % PADDING))).T
        whole = size >= columns
        steps = np.empty((1 if whole else len(weight) // size, rows), np.float32)
        if whole:
            steps[0] = _steps(weight.T, lowest, highest)
        made_up = np.zeros((len(self._blocks[0][0]), rows), np.float32)
        levels = np.empty(weight.shape, np.float32)
        for number, (seen, solved, factor) in enumerate(self._blocks):
            part = slice(number * BLOCK, number * BLOCK + seen.shape[1])
            values = weight[part] + seen.T @ made_up
            of_part = steps if whole else steps[part.start // size : part.stop // size]
            group = None if whole else size
            lost = _round(values, factor, levels[part], of_part, (lowest, highest), group)
            made_up += solved @ lost
        groups = 1 if whole else -(-columns // size)
        return Rounded(levels[: columns if whole else groups * size].T, steps[:groups].T)


def seen(inputs: Mapping[str, Float]) -> dict[str, Seen]:
    """What each part of a layer was seen to read, [tokens, in] each."""
    with ThreadPoolExecutor(cpu.granted_threads().intra) as pool:
        return dict(zip(inputs, pool.map(Seen, inputs.values()), strict=True))


def _factor(hessian: npt.NDArray[np.floating]) -> Float:
    """Upper Cholesky factor of the inverse of a block's Hessian, less its damping."""
    inverse = np.linalg.inv(np.eye(len(hessian)) + hessian)
    factor: Float = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
    return factor


def _round(
    values: Float,
    factor: Float,
    levels: Float,
    steps: Float,
    bounds: tuple[int, int],
    size: int | None,
) -> Float:
    """Round a block [columns, out] into `levels`; what each value lost, [columns, out].

    `steps` [groups, out] of `size` columns each are chosen here; without a size there is one for
    all columns, which is known.
    """
    lost = np.empty_like(values)
    left = values.copy()
    count = len(left)
    for first in range(0, count, STRIP):
        last = min(first + STRIP, count)
        group = 0 if size is None else first // size
        if size is not None and first % size == 0:
            steps[group] = _steps(left[first : first + size].T, *bounds)
        step = steps[group]
        errors = np.empty((last - first, left.shape[1]), np.float32)
        for column in range(first, last):
            level = levels[column]
            np.rint(left[column] / step, out=level)
            np.clip(level, *bounds, out=level)
            rounded = level * step
            np.subtract(values[column], rounded, out=lost[column])
            error = errors[column - first]
            np.divide(left[column] - rounded, factor[column, column], out=error)
            left[column + 1 : last] -= factor[column, column + 1 : last, None] * error
        left[last:] -= factor[first:last, last:].T @ errors
    return lost
