"""The day plan as a linear programme: what all terms share, and the table of terms.

Inside the programme powers are kW, energies kWh, squared voltages 1e-3 pu^2 and money EUR: numbers near one keep the
solver exact. The network has three scenarios; a device draws the same in each unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tieline_cloud.gridmodel.model import FloatArray, IntArray
from tieline_cloud.planning.control_tree import P10, P50, P90, ControlTree, Linearisation
from tieline_cloud.planning.linear import LinearDraft, LinearProgram
from tieline_cloud.planning.problem import PlanningProblem


@dataclass(frozen=True, slots=True)
class Draw:
    """Columns [T] that draw ``sign`` kW a unit from the grid at a site, in some scenarios."""

    site: int
    columns: IntArray
    sign: float
    scenarios: tuple[int, ...] = (P10, P50, P90)


@dataclass(slots=True)
class Formulation:
    """What a term sees: the problem, the network around an AC solution, and the programme being written.

    Devices announce what they draw; network and energy terms stand behind them in the table and read it.
    """

    problem: PlanningProblem
    tree: ControlTree
    base: Linearisation
    draft: LinearDraft = field(default_factory=LinearDraft)
    draws: list[Draw] = field(default_factory=list)
    reach_kw: FloatArray = field(init=False)
    """Most the devices of a site can draw or deliver in any step [site]; limits out of reach need no row."""

    def __post_init__(self) -> None:
        self.reach_kw = np.zeros(len(self.problem.sites))

    @property
    def shape(self) -> tuple[int, int]:
        """Movable nodes and steps."""
        return len(self.tree), self.problem.steps

    def site_index(self, edge_id: str) -> int:
        """Position of a site."""
        return next(s for s, site in enumerate(self.problem.sites) if site.edge_id == edge_id)

    def announce(self, draw: Draw, reach_kw: float) -> None:
        """Let network and energy see what a device draws, at most ``reach_kw`` either way."""
        self.draws.append(draw)
        self.reach_kw[draw.site] += reach_kw

    def eur_per_kw_step(self, eur_per_mwh: float) -> float:
        """Price of one kW during one step."""
        return eur_per_mwh * self.problem.hours / 1e3


Term = Callable[[Formulation], None]


def formulate(
    problem: PlanningProblem, tree: ControlTree, base: Linearisation, terms: tuple[Term, ...] | None = None
) -> LinearProgram:
    """Write the programme; without ``terms`` the whole table of :mod:`tieline_cloud.planning.terms`."""
    if terms is None:
        from tieline_cloud.planning.terms import TERMS

        terms = TERMS
    formulation = Formulation(problem, tree, base)
    for term in terms:
        term(formulation)
    return formulation.draft.program()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A solution in words of the problem [kW, kWh], and its plain effect at each site.

    Attributes:
        charge_kw, discharge_kw, energy_kwh: [battery, T]; energy at the end of the step.
        pv_limit_kw: Most each plant may generate [pv, T], infinite where it is not curtailed.
        flexible_kw: [flexible, T].
        slack: Total of each labelled slack that is not zero, in kWh (voltages: 1e-3 pu^2 h).
    """

    charge_kw: FloatArray
    discharge_kw: FloatArray
    energy_kwh: FloatArray
    pv_limit_kw: FloatArray
    flexible_kw: FloatArray
    slack: Mapping[str, float]

    @property
    def battery_kw(self) -> FloatArray:
        """Signed battery power [battery, T], charging positive."""
        return self.charge_kw - self.discharge_kw


#: Labelled slack columns: what the programme may break at a price when nothing else helps.
SLACKS = ("overload_import", "overload_export", "voltage_low", "voltage_high", "soc_shortfall", "unserved")

#: Below this a curtailment is rounding, not an instruction [kW].
CURTAILED_FROM_KW = 0.01


def schedule(problem: PlanningProblem, program: LinearProgram, x: FloatArray) -> Schedule:
    """Read a solution."""

    def block(name: str, rows: int) -> FloatArray:
        columns = program.columns.get(name)
        return np.zeros((rows, problem.steps)) if columns is None else x[columns]

    curtailed = block("curtail_p10", len(problem.pv))
    most = np.array([plant.share * -problem.site(plant.edge_id).pv_p10_w / 1e3 for plant in problem.pv])
    most = most.reshape(curtailed.shape)
    slack = {name: float(np.maximum(x[program.columns[name]], 0.0).sum()) for name in SLACKS if name in program.columns}
    hours = {"soc_shortfall": 1.0, "unserved": 1.0}
    return Schedule(
        charge_kw=np.maximum(block("charge", len(problem.batteries)), 0.0),
        discharge_kw=np.maximum(block("discharge", len(problem.batteries)), 0.0),
        energy_kwh=block("energy", len(problem.batteries)),
        pv_limit_kw=np.where(curtailed > CURTAILED_FROM_KW, np.maximum(most - curtailed, 0.0), np.inf),
        flexible_kw=np.maximum(block("flexible", len(problem.flexible)), 0.0),
        slack={name: total * hours.get(name, problem.hours) for name, total in slack.items() if total > 1e-6},
    )
