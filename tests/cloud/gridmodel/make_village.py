"""Writes village.json, the small published network of these tests: ``python tests/cloud/gridmodel/make_village.py``.

A 10 kV busbar (two coupled buses) feeds two cables. On ``north`` stand three unmetered customers and the substations
``harbour`` and ``mill``; on ``south`` two customers, with an open tie back to ``north``.
"""

from __future__ import annotations

from pathlib import Path

import pandapower as pp


def village() -> pp.pandapowerNet:
    """Build the network."""
    net = pp.create_empty_network(name="village")
    bus = {}
    for number, name in enumerate(("busbar-a", "busbar-b", "n1", "n2", "n3", "s1", "s2")):
        zone = {"n": "north", "s": "south"}.get(name[0])
        bus[name] = pp.create_bus(net, 10.0, name=name, zone=zone, geodata=(11.3 + 0.01 * number, 53.6))
    pp.create_ext_grid(net, bus["busbar-a"], vm_pu=1.02, name="upstream")
    pp.create_switch(net, bus["busbar-a"], bus["busbar-b"], et="b", closed=True, name="coupler")
    cables = (("busbar-b", "n1", 1.5), ("n1", "n2", 1.0), ("n2", "n3", 2.0), ("busbar-a", "s1", 1.2), ("s1", "s2", 0.8))
    for start, end, km in cables:
        pp.create_line(net, bus[start], bus[end], km, "NA2XS2Y 1x150 RM/25 6/10 kV", name=f"cable-{end}")
    tie = pp.create_line(net, bus["n3"], bus["s2"], 0.5, "NA2XS2Y 1x150 RM/25 6/10 kV", name="tie")
    pp.create_switch(net, bus["s2"], tie, et="l", closed=False, name="tie-s2")
    for name, megawatt in (("n1", 0.4), ("n2", 0.3), ("n3", 0.5), ("s1", 0.6), ("s2", 0.2)):
        pp.create_load(net, bus[name], megawatt, 0.25 * megawatt, name=f"customer-{name}")
    pp.create_sgen(net, bus["s2"], 0.1, name="wind-s2")
    for edge, above in (("harbour", "n2"), ("mill", "n3")):
        lv = pp.create_bus(net, 0.4, name=f"{edge}/lv")
        pp.create_transformer_from_parameters(
            net, bus[above], lv, sn_mva=0.63, vn_hv_kv=10.0, vn_lv_kv=0.4, vk_percent=6.0, vkr_percent=1.2, pfe_kw=1.2,
            i0_percent=0.25, shift_degree=150.0, name=f"{edge}/tr1",
        )  # fmt: skip
        for number in range(1, 4):
            pp.create_load(net, lv, 0.1, 0.025, name=f"{edge}/load{number:02d}")
        pp.create_load(net, lv, 0.05, 0.01, name=f"{edge}/m01")
        for number in (1, 2):
            pp.create_sgen(net, lv, 0.03, name=f"{edge}/pv{number}")
            pp.create_storage(net, lv, 0.0, max_e_mwh=0.15, name=f"{edge}/bat{number}")
    return net


def main() -> None:
    """Write the file beside this one, without the library of standard types."""
    net = village()
    net.std_types = {kind: {} for kind in net.std_types}
    pp.to_json(net, str(Path(__file__).with_name("village.json")))


if __name__ == "__main__":
    main()
