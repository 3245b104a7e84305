"""The table of terms. A new device, constraint or objective is one file here, one line in the table and one test.

Order matters once: devices announce their draws before ``network`` and ``energy`` read them, and ``ageing`` and
``peak`` read the flows that ``network`` made.
"""

from typing import Final

from tieline_cloud.planning.formulation import Term
from tieline_cloud.planning.terms import ageing, curtailment, energy, flexible, network, peak, storage

TERMS: Final[tuple[Term, ...]] = (
    storage.add,  # state of charge, wear, end of horizon
    curtailment.add,  # PV generation limits
    flexible.add,  # loads that may shift inside a window
    energy.add,  # price of what is drawn from upstream
    network.add,  # branch loading and voltage limits, with slack
    ageing.add,  # rising price of high transformer loading
    peak.add,  # price of the highest transformer loading
)

__all__ = ["TERMS"]
