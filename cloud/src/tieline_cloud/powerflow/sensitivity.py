"""How voltages and loadings move with the power drawn at one bus: central differences of the AC power flow.

Four solutions a state, all in one batch; exact to the curvature of the power flow, without the Jacobian of the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tieline_cloud.gridmodel.model import FloatArray
from tieline_cloud.powerflow.solver import PowerFlow

#: Half the difference that is taken [W, var]: far above the solver's tolerance, far below a feeder's load.
DELTA: Final = 5e3


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Change with 1 MW or 1 Mvar more drawn at a bus; a leading time axis, then [bus] or [branch].

    Attributes:
        vm_per_mw, vm_per_mvar: Of the voltage magnitudes [pu].
        loading_per_mw, loading_per_mvar: Of the loadings [percentage points]; signed, so negative where the flow is reversed.
    """

    vm_per_mw: FloatArray
    vm_per_mvar: FloatArray
    loading_per_mw: FloatArray
    loading_per_mvar: FloatArray


def sensitivity(engine: PowerFlow, p_w: FloatArray, q_var: FloatArray, bus: int) -> Sensitivity:
    """Linearise around operating points.

    Args:
        engine: The network.
        p_w, q_var: Power drawn at each bus [T, bus], load convention.
        bus: Position of the bus whose power changes.

    Raises:
        PowerFlowDivergedError: When an operating point, or one a few kilowatts beside it, has no solution.
    """
    steps = len(p_w)
    p, q = np.tile(p_w, (4, 1)), np.tile(q_var, (4, 1))
    for block, (of, sign) in enumerate(((p, 1.0), (p, -1.0), (q, 1.0), (q, -1.0))):
        of[block * steps : (block + 1) * steps, bus] += sign * DELTA
    solved = engine.batch(p, q)

    def slope(values: FloatArray, first: int) -> FloatArray:
        blocks = values.reshape(4, steps, -1)
        out: FloatArray = (blocks[first] - blocks[first + 1]) / (2.0 * DELTA) * 1e6
        return out

    return Sensitivity(
        vm_per_mw=slope(solved.vm_pu, 0),
        vm_per_mvar=slope(solved.vm_pu, 2),
        loading_per_mw=slope(solved.loading_pct, 0),
        loading_per_mvar=slope(solved.loading_pct, 2),
    )
