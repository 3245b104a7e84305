"""A sparse linear programme being written down: named columns, named rows, triplets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from tieline_cloud.gridmodel.model import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class LinearProgram:
    """``min cost @ x + offset`` with ``row_lower <= matrix @ x <= row_upper`` and ``lower <= x <= upper``.

    Attributes:
        columns: Column positions by name, in the shape they were asked for.
        rows: Row positions by name.
    """

    cost: FloatArray
    offset: float
    lower: FloatArray
    upper: FloatArray
    row_lower: FloatArray
    row_upper: FloatArray
    matrix: sp.csc_matrix
    columns: Mapping[str, IntArray]
    rows: Mapping[str, IntArray]

    def with_bounds(self, lower: FloatArray, upper: FloatArray) -> LinearProgram:
        """The same programme with other column bounds."""
        return LinearProgram(
            self.cost, self.offset, lower, upper, self.row_lower, self.row_upper, self.matrix, self.columns, self.rows
        )


@dataclass(slots=True)
class LinearDraft:
    """Collects blocks; :meth:`program` closes it."""

    columns: dict[str, IntArray] = field(default_factory=dict)
    rows: dict[str, IntArray] = field(default_factory=dict)
    offset: float = 0.0
    _bounds: list[tuple[FloatArray, FloatArray, FloatArray]] = field(default_factory=list)
    _row_bounds: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)
    _triplets: list[tuple[IntArray, IntArray, FloatArray]] = field(default_factory=list)
    _extra_cost: list[tuple[IntArray, FloatArray]] = field(default_factory=list)
    _n_columns: int = 0
    _n_rows: int = 0

    def add_columns(
        self, name: str, shape: tuple[int, ...], lower: ArrayLike = 0.0, upper: ArrayLike = np.inf, cost: ArrayLike = 0.0
    ) -> IntArray:
        """New variables; returns their positions in the given shape. Bounds and cost broadcast to it."""
        block = np.arange(self._n_columns, self._n_columns + int(np.prod(shape)), dtype=np.int64).reshape(shape)
        self._n_columns += block.size
        flat = [np.broadcast_to(np.asarray(part, dtype=np.float64), shape).ravel() for part in (lower, upper, cost)]
        self._bounds.append((flat[0], flat[1], flat[2]))
        self.columns[name] = block
        return block

    def add_rows(self, name: str, shape: tuple[int, ...], lower: ArrayLike = -np.inf, upper: ArrayLike = np.inf) -> IntArray:
        """New constraints; returns their positions in the given shape."""
        block = np.arange(self._n_rows, self._n_rows + int(np.prod(shape)), dtype=np.int64).reshape(shape)
        self._n_rows += block.size
        flat = [np.broadcast_to(np.asarray(part, dtype=np.float64), shape).ravel() for part in (lower, upper)]
        self._row_bounds.append((flat[0], flat[1]))
        self.rows[name] = block
        return block

    def put(self, rows: IntArray, columns: IntArray, values: ArrayLike) -> None:
        """Coefficients; rows, columns and values broadcast to one shape, and repeats add up."""
        r, c, v = np.broadcast_arrays(rows, columns, np.asarray(values, dtype=np.float64))
        self._triplets.append((r.ravel(), c.ravel(), v.ravel()))

    def add_cost(self, columns: IntArray, cost: ArrayLike) -> None:
        """More cost on existing variables."""
        c, v = np.broadcast_arrays(columns, np.asarray(cost, dtype=np.float64))
        self._extra_cost.append((c.ravel(), v.ravel()))

    def program(self) -> LinearProgram:
        """The finished programme."""
        lower, upper, cost = (np.concatenate([block[part] for block in self._bounds]) for part in range(3))
        for columns, extra in self._extra_cost:
            np.add.at(cost, columns, extra)
        row_lower, row_upper = (np.concatenate([block[part] for block in self._row_bounds]) for part in range(2))
        rows, columns = (np.concatenate([block[part] for block in self._triplets]) for part in range(2))
        values = np.concatenate([block[2] for block in self._triplets])
        matrix = sp.csc_matrix((values, (rows, columns)), shape=(self._n_rows, self._n_columns))
        return LinearProgram(cost, self.offset, lower, upper, row_lower, row_upper, matrix, self.columns, self.rows)
