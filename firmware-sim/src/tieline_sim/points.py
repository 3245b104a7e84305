"""The mapping file: which point of the product carries which quantity of the witness log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tieline_sim.errors import ScenarioError

_KEYS: Final = {"point", "device", "quantity", "factor", "exponent", "optional", "readback"}
_PLACEHOLDERS: Final = {"{sub}": r"(?P<sub>[^/]+)", "{nn}": r"(?P<nn>\d\d)"}


@dataclass(frozen=True, slots=True)
class PointRule:
    """One row of the mapping.

    Attributes:
        point: Pattern of the product's point; ``{sub}`` stands for a substation, ``{nn}`` for two digits.
        device: Witness device, may use ``{nn}``.
        quantity: Witness quantity.
        factor: Product value = factor * witness value.
        exponent: Resolution of the point as a power of ten.
        optional: Counted only when the store has the point at all.
        readback: Answers to reads that check a write are not stored; an unstored answer is no loss.
    """

    point: str
    device: str
    quantity: str
    factor: float = 1.0
    exponent: int = 0
    optional: bool = False
    readback: bool = False

    def match(self, point: str) -> tuple[str, str] | None:
        """Substation and witness device of a product point, None when the rule is not about it."""
        pattern = re.escape(self.point).replace(r"\{", "{").replace(r"\}", "}")
        for placeholder, expression in _PLACEHOLDERS.items():
            pattern = pattern.replace(placeholder, expression)
        found = re.fullmatch(pattern, point)
        if found is None:
            return None
        parts = found.groupdict()
        return parts["sub"], self.device.replace("{nn}", parts.get("nn") or "")

    def point_of(self, substation: str, device: str) -> str | None:
        """Product point of a witness device, None when the rule is not about it."""
        found = re.fullmatch(re.escape(self.device).replace(r"\{nn\}", r"(\d\d)"), device)
        if found is None:
            return None
        return self.point.replace("{sub}", substation).replace("{nn}", found.group(1) if found.groups() else "")

    def units(self, value: float) -> int:
        """A product value counted in steps of its resolution."""
        rounded = round(value, -self.exponent) if self.exponent < 0 else value
        return round(rounded / 10.0**self.exponent) if self.exponent >= 0 else round(rounded * 10.0**-self.exponent)


@dataclass(frozen=True, slots=True)
class PointMap:
    """All rules, and the patterns (``*`` stands for anything) of points the product derives by itself."""

    rules: tuple[PointRule, ...]
    derived: tuple[str, ...]

    def is_derived(self, point: str) -> bool:
        """True for a point that no device transmits."""
        return any(re.fullmatch(re.escape(row).replace(r"\*", ".*"), point) for row in self.derived)


def load_points(path: Path) -> PointMap:
    """Read the mapping file.

    Raises:
        ScenarioError: Names file, key, value and reason.
    """
    source = str(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ScenarioError(source, "", None, f"cannot be read: {error}") from error
    if not isinstance(tree, dict) or set(tree) - {"version", "points", "derived"} or tree.get("version") != 1:
        raise ScenarioError(source, "", None, "must hold version: 1, points and derived")
    rules = tuple(_rule(row, source, f"points[{number}]") for number, row in enumerate(tree.get("points") or []))
    derived = tree.get("derived") or []
    if not all(isinstance(row, str) for row in derived):
        raise ScenarioError(source, "derived", derived, "must be a list of patterns")
    return PointMap(rules, tuple(derived))


def _rule(row: Any, source: str, key: str) -> PointRule:
    if not isinstance(row, dict):
        raise ScenarioError(source, key, row, "must be a mapping")
    unknown = set(row) - _KEYS
    if unknown:
        raise ScenarioError(
            source, f"{key}.{min(unknown)}", row[min(unknown)], f"unknown key; known are {', '.join(sorted(_KEYS))}"
        )
    for name in ("point", "device", "quantity"):
        if not isinstance(row.get(name), str):
            raise ScenarioError(source, f"{key}.{name}", row.get(name), "must be a text")
    if not isinstance(row.get("exponent", 0), int) or not isinstance(row.get("factor", 1), (int, float)):
        raise ScenarioError(source, key, row, "exponent must be a whole number, factor a number")
    return PointRule(**row)
