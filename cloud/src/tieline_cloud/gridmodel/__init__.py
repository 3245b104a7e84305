"""The published network as frozen arrays: import, topology for people, load allocation.

``state`` is imported by its full name where it is needed: it solves a power flow, this package does not.
"""

from tieline_cloud.gridmodel.model import Branches, Buses, GridModel, Injections, Sources, Substation, Switches
from tieline_cloud.gridmodel.network import load_network

__all__ = ["Branches", "Buses", "GridModel", "Injections", "Sources", "Substation", "Switches", "load_network"]
