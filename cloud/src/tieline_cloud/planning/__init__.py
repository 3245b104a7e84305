"""Day plans for the substations: one linear programme, checked by AC power flow, published with a certificate."""

from tieline_cloud.planning.errors import PlanRefusedError
from tieline_cloud.planning.problem import Battery, CurtailablePv, FlexibleLoad, Limits, PlanningProblem, SiteForecast

__all__ = [
    "Battery",
    "CurtailablePv",
    "FlexibleLoad",
    "Limits",
    "PlanRefusedError",
    "PlanningProblem",
    "SiteForecast",
]
