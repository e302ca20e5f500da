"""Rounding of weights, against plain GPTQ with the Hessian of all columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mineru_daemon.engines.mineru.export import rounding

Float = npt.NDArray[np.float32]

NUMBERS = np.random.default_rng(11)
MIXED = NUMBERS.standard_normal((24, 200), np.float32)
"""What makes columns go together, as they do in a model."""


def read(tokens: int) -> Float:
    """Inputs [tokens, 200]."""
    together = NUMBERS.standard_normal((tokens, 24), np.float32) @ MIXED
    return together + NUMBERS.standard_normal((tokens, 200), np.float32)


def drawn(rows: int) -> Float:
    return NUMBERS.standard_normal((rows, 200), np.float32)


def restored(made: rounding.Rounded) -> Float:
    """The weight that was rounded, [out, 200]."""
    size = made.levels.shape[1] // made.scales.shape[1]
    restored: Float = made.levels * np.repeat(made.scales, size, axis=1)
    return restored[:, :200]


def lost(made: rounding.Rounded, weight: Float, inputs: Float) -> float:
    """Share of the layer's outputs."""
    error = inputs @ (restored(made) - weight).T
    return float(np.linalg.norm(error) / np.linalg.norm(inputs @ weight.T))


LEVELS = pytest.mark.parametrize(
    ("lowest", "highest", "size"), [(-127, 127, 200), (-8, 7, 32), (-8, 7, 128)]
)
"""Of a step for whole rows, and for groups of columns."""


def gptq(weight: Float, inputs: Float, lowest: int, highest: int, size: int) -> Float:
    """As in the paper: one column after the other, by the inverse of the Hessian."""
    columns = weight.shape[1]
    left = weight.astype(np.float64)
    hessian = inputs.T.astype(np.float64) @ inputs
    hessian += rounding.DAMPING * np.mean(np.diag(hessian)) * np.eye(columns)
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
    made = np.empty_like(left)
    for column in range(columns):
        if column % size == 0:
            group = left[:, column : column + size]
            largest = np.take_along_axis(group, np.abs(group).argmax(1)[:, None], 1)[:, 0]
            step = np.abs(largest) / highest if lowest == -highest else largest / lowest
        made[:, column] = np.clip(np.rint(left[:, column] / step), lowest, highest) * step
        error = (left[:, column] - made[:, column]) / factor[column, column]
        left[:, column + 1 :] -= np.outer(error, factor[column, column + 1 :])
    return made.astype(np.float32)


@pytest.mark.parametrize("tokens", [50, 300])
@LEVELS
def test_the_result_is_that_of_the_whole_hessian(
    tokens: int, lowest: int, highest: int, size: int
) -> None:
    weight, inputs = drawn(16), read(tokens)
    made = restored(rounding.Seen(inputs).rounded(weight, lowest, highest, size))
    expected = gptq(weight, inputs, lowest, highest, size)
    # What lies half-way between two levels may fall to either side, and what follows with it.
    assert np.mean(np.abs(made - expected) < 1e-3) > 0.98


@LEVELS
def test_outputs_lose_less_also_for_inputs_that_were_not_seen(
    lowest: int, highest: int, size: int
) -> None:
    weight, seen, unseen = drawn(64), read(300), read(300)
    nearest = rounding.nearest(weight, lowest, highest, size)
    made = rounding.Seen(seen).rounded(weight, lowest, highest, size)
    assert lost(made, weight, seen) < 0.5 * lost(nearest, weight, seen)
    assert lost(made, weight, unseen) < 0.8 * lost(nearest, weight, unseen)


@LEVELS
def test_without_inputs_each_number_is_rounded_by_itself(
    lowest: int, highest: int, size: int
) -> None:
    weight = drawn(8)
    weight[3] = 0
    made = rounding.Seen(np.zeros((5, 200), np.float32)).rounded(weight, lowest, highest, size)
    nearest = rounding.nearest(weight, lowest, highest, size)
    np.testing.assert_array_equal(made.levels, nearest.levels)
    np.testing.assert_allclose(made.scales, nearest.scales, rtol=1e-6)
