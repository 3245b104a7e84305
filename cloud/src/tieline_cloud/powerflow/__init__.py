"""AC power flow on a grid model: single solves and batches over time."""

from tieline_cloud.powerflow.errors import NotRadialError, PowerFlowDivergedError
from tieline_cloud.powerflow.served import ServedLoad, served_load
from tieline_cloud.powerflow.solver import PowerFlow, PowerFlowResult
from tieline_cloud.powerflow.tree import RadialTree, radial_tree

__all__ = [
    "NotRadialError",
    "PowerFlow",
    "PowerFlowDivergedError",
    "PowerFlowResult",
    "RadialTree",
    "ServedLoad",
    "radial_tree",
    "served_load",
]
