"""Looking at one OPC-UA server: how it can be secured, and which catalogue entries its nodes would fit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tieline_edge.commissioning.finding import Finding
from tieline_edge.drivers.catalog.load import entry, names

_MAX_NODES: Final = 2000
_MAX_DEPTH: Final = 6
#: Policies the edge speaks, best first (OPC 10000-7), and the modes.
_POLICIES: Final = ("Aes256_Sha256_RsaPss", "Aes128_Sha256_RsaOaep", "Basic256Sha256")
_MODES: Final = {1: "None", 2: "Sign", 3: "SignAndEncrypt"}
#: A bay looks like an entry when it has so many of its nodes, and this share of them.
_LEAST_NODES: Final = 2
_LEAST_SHARE: Final = 0.4


async def scan_opcua(url: str, timeout_s: float, silence: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Ask a server for its endpoints; browse it where it lets in anybody.

    Nothing is written, and no certificate is trusted: a server that wants security is listed with what it offers.
    """
    from asyncua import Client, ua

    try:
        async with asyncio.timeout(10 * timeout_s):
            offers = await Client(url, timeout=timeout_s).connect_and_get_server_endpoints()
    except (TimeoutError, OSError, ua.UaError) as error:
        silence(f"{url}: no answer: {error or f'nothing within {10 * timeout_s:g} s'}")
        return []
    security = sorted({(str(one.SecurityPolicyUri).rpartition("#")[2], int(one.SecurityMode)) for one in offers})
    told = tuple(f"offers {policy} {_MODES.get(mode, '?')}" if mode > 1 else "offers no security" for policy, mode in security)
    place = {"url": url, **_secured(security)}
    variables = await _browse(url, timeout_s) if any(mode == 1 for _, mode in security) else None
    if variables is None:
        text = "OPC-UA server; browsing it needs mutual trust, see 'tieline-edge opcua-certificate --help'"
        return [Finding(place, text, (), told, certain=False)]
    return bays(place, told, variables)


def _secured(security: Sequence[tuple[str, int]]) -> dict[str, object]:
    """The best the server offers, as keys of an ``opcua`` block."""
    for policy in _POLICIES:
        modes = [mode for offered, mode in security if offered == policy]
        if modes:
            return {"security_policy": policy, "security_mode": _MODES[max(modes)]}
    return {"insecure": True}


def bays(place: Mapping[str, object], told: tuple[str, ...], variables: Sequence[str]) -> list[Finding]:
    """What the nodes of a server would fit: one finding a bay, or one for the server when nothing fits."""
    have = set(variables)
    fits: dict[str, list[tuple[int, float, str]]] = {}
    for name in names():
        found = entry(name)
        patterns = [point.node for point in found.points if point.node is not None]
        if found.protocol != "opcua" or not patterns:
            continue
        for root in _roots(patterns, variables):
            count = sum(pattern.format(root=root) in have for pattern in patterns)
            if count >= _LEAST_NODES and count / len(patterns) >= _LEAST_SHARE:
                fits.setdefault(root, []).append((count, count / len(patterns), name))
    findings = []
    for root, rows in sorted(fits.items()):
        ranked = sorted(rows, key=lambda row: (-row[0], -row[1], row[2]))
        entries, share = tuple(name for _, _, name in ranked), ranked[0][1]
        text = f"bay {root}: {share:.0%} of the nodes of {entries[0]} are there"
        findings.append(Finding({**place, "root": root}, text, entries, told, certain=share == 1.0))
    if findings:
        return findings
    return [Finding(place, f"OPC-UA server with {len(variables)} variables", (), (*told, *variables[:20]), certain=False)]


def _roots(patterns: Sequence[str], variables: Sequence[str]) -> set[str]:
    roots = set()
    for pattern in patterns:
        before, _, after = pattern.partition("{root}")
        form = re.compile(re.escape(before) + r"(?P<root>[^;{}]{1,64})" + re.escape(after))
        roots |= {match["root"] for node in variables if (match := form.fullmatch(node)) is not None}
    return roots


async def _browse(url: str, timeout_s: float) -> list[str] | None:
    from asyncua import Client, ua

    client = Client(url, timeout=timeout_s)
    try:
        async with asyncio.timeout(10 * timeout_s):
            await client.connect()
            variables = await _variables(client)
    except (TimeoutError, OSError, ua.UaError):
        client.disconnect_socket()
        return None
    await client.disconnect()
    return variables


async def _variables(client: Any) -> list[str]:  # asyncua is untyped here
    from asyncua import ua

    found: list[str] = []
    level = [client.nodes.objects]
    for _ in range(_MAX_DEPTH):
        below = []
        for node in level:
            for child in await node.get_children():
                if child.nodeid.NamespaceIndex == 0 or len(found) >= _MAX_NODES:
                    continue
                if await child.read_node_class() == ua.NodeClass.Variable:
                    found.append(child.nodeid.to_string())
                else:
                    below.append(child)
        level = below
    return found
