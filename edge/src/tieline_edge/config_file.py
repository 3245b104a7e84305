"""Reading the site configuration: every mistake gets file, key, value, reason, and what would be right."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tieline_core.errors import BadInputError
from tieline_core.field_words import reason_of, value_of
from tieline_core.strict_yaml import MAX_BYTES, parse
from tieline_edge.drivers.capabilities import Capability, Role
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.catalog.load import entry as catalog_entry
from tieline_edge.drivers.catalog.load import is_file
from tieline_edge.drivers.catalog.load import names as catalog_names
from tieline_edge.drivers.modbus.bus_load import MOST, line_loads
from tieline_edge.places import place_mistakes
from tieline_edge.settings import DeviceSettings, EdgeSettings, sample_periods_s
from tieline_edge.shedding.checks import hold_mistakes
from tieline_edge.sync.trusted import trusted_keys
from tieline_edge.vital_file import configured_list

_MAX_DEPTH: Final = 20


def read_yaml(path: Path) -> Mapping[str, object]:
    """The raw tree of a configuration file.

    Raises:
        BadInputError: When it cannot be read, is too large, is no YAML or writes a key twice.
    """
    source = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInputError(source, "", None, f"cannot be read: {error.strerror or error}") from error
    return _tree(data, source)


def _tree(data: bytes, source: str) -> Mapping[str, object]:
    tree = parse(data, source)
    if not isinstance(tree, dict):
        raise BadInputError(source, "", tree, "a block of keys is expected, such as 'edge_id: harbour'")
    return tree


def load_settings(path: Path) -> EdgeSettings:
    """Read a site configuration.

    Args:
        path: YAML file; relative paths inside it are meant from the working directory.

    Raises:
        BadInputError: The first mistake; :func:`check_config` gives all.
    """
    settings, mistakes = _read(path)
    if mistakes or settings is None:
        raise mistakes[0]
    return settings


def check_config(path: Path) -> list[BadInputError]:
    """Every mistake of a site configuration; empty when it can be run."""
    return _read(path)[1]


def check_text(data: bytes, source: str) -> tuple[EdgeSettings | None, list[BadInputError]]:
    """The settings in the text of a site file that came another way, and its mistakes; it can be run when there are none.

    Args:
        data: YAML.
        source: What it is called in the mistakes.
    """
    try:
        tree = _tree(data, source)
    except BadInputError as error:
        return None, [error]
    return _checked(tree, source)


def _read(path: Path) -> tuple[EdgeSettings | None, list[BadInputError]]:
    try:
        tree = read_yaml(path)
    except BadInputError as error:
        return None, [error]
    return _checked(tree, str(path))


def _checked(tree: Mapping[str, object], source: str) -> tuple[EdgeSettings | None, list[BadInputError]]:
    mistakes: list[BadInputError] = []
    settings: EdgeSettings | None = None
    try:
        settings = EdgeSettings.model_validate(tree)
    except ValidationError as error:
        mistakes = [_mistake(source, details, tree) for details in error.errors()]
    # Rules over the whole tree look at every device that can be read, so that one typing error hides no second mistake.
    devices = settings.devices if settings is not None else _readable_devices(tree)
    mistakes.extend(_device_mistakes(source, devices))
    if settings is not None:
        mistakes.extend(_site_mistakes(source, settings))
    return settings, mistakes


def _readable_devices(tree: Mapping[str, object]) -> tuple[DeviceSettings | None, ...]:
    rows = tree.get("devices")
    devices: list[DeviceSettings | None] = []
    for row in rows if isinstance(rows, list) else []:
        try:
            devices.append(DeviceSettings.model_validate(row))
        except ValidationError:
            devices.append(None)
    return tuple(devices)


def _path(location: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _mistake(source: str, details: ErrorDetails, tree: Mapping[str, object]) -> BadInputError:
    value = value_of(details)
    if value is tree or (isinstance(value, dict) and details["type"] == "value_error"):
        value = None if value is tree else value.get("id", "block")
    return BadInputError(source, _path(details["loc"]), value, reason_of(details, EdgeSettings))


def _device_mistakes(source: str, devices: Sequence[DeviceSettings | None]) -> Iterator[BadInputError]:
    for number, kind, place, reason in place_mistakes(devices):
        yield BadInputError(source, f"devices[{number}].{kind}", place, reason)
    for number, device in enumerate(devices):
        if device is None:
            continue
        at = f"devices[{number}]"
        if not is_file(device.catalog) and device.catalog not in catalog_names():
            near = difflib.get_close_matches(device.catalog, catalog_names(), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(catalog_names())}"
            yield BadInputError(source, f"{at}.catalog", device.catalog, f"no such catalogue entry; {hint}")
            continue
        try:
            entry = catalog_entry(device.catalog)
        except BadInputError as error:
            yield error
            continue
        for key, value, reason in _entry_mistakes(device, entry):
            yield BadInputError(source, f"{at}.{key}", value, f"{device.id}: {reason}")


def _entry_mistakes(device: DeviceSettings, entry: CatalogEntry) -> Iterator[tuple[str, object, str]]:
    endpoint = getattr(device, entry.protocol)
    if endpoint is None:
        given = next(name for name in ("modbus", "opcua", "mqtt") if getattr(device, name) is not None)
        yield given, given, f"{entry.name} speaks {entry.protocol}; give its '{entry.protocol}' endpoint instead"
    if device.modbus is not None and device.modbus.instance > 1 and not any(one.model for one in entry.registers):
        yield "modbus.instance", device.modbus.instance, f"{entry.name} has no SunSpec models to count"
    storage = entry.role is Role.STORAGE
    if storage and device.energy_wh is None:
        yield "energy_wh", None, "a storage needs its usable capacity in Wh"
    if not storage and device.energy_wh is not None:
        yield "energy_wh", device.energy_wh, f"only a storage has a capacity, {entry.name} is a {entry.role.value}"
    if Capability.SWITCH in entry.capabilities and device.priority_class is None:
        yield "priority_class", None, "a load that can be shed needs its class (0 = vital, never shed)"
    if Capability.SWITCH not in entry.capabilities and device.priority_class is not None:
        yield "priority_class", device.priority_class, f"{entry.name} cannot be switched, so it has no class"
    yield from _limit_mistakes(device, entry)


def _limit_mistakes(device: DeviceSettings, entry: CatalogEntry) -> Iterator[tuple[str, object, str]]:
    low, high = device.p_min_w, device.p_max_w
    if low is not None and high is not None and low > high:
        yield "p_min_w", low, f"limits are crossed: p_min_w {low:g} W is above p_max_w {high:g} W"
    elif Capability.HOLD_POWER in entry.capabilities:
        if low is None or low > 0:
            yield "p_min_w", low, "a storage needs its largest discharging power as p_min_w, at most 0 W (load convention)"
        if high is None or high < 0:
            yield "p_max_w", high, "a storage needs its largest charging power as p_max_w, at least 0 W (load convention)"
    if Capability.LIMIT_GENERATION in entry.capabilities and (low is None or low >= 0):
        yield "p_min_w", low, "a PV inverter needs its rating as p_min_w, below 0 W (load convention: generation is negative)"
    soc_low = device.soc_min_pct if device.soc_min_pct is not None else 0.0
    soc_high = device.soc_max_pct if device.soc_max_pct is not None else 100.0
    if soc_low >= soc_high:
        yield "soc_min_pct", device.soc_min_pct, f"limits are crossed: {soc_low:g} % is not below soc_max_pct {soc_high:g} %"
    elif device.soc_reserve_pct is not None and device.soc_reserve_pct >= soc_high - soc_low:
        reason = f"leaves plans nothing of the window from {soc_low:g} % to {soc_high:g} %"
        yield "soc_reserve_pct", device.soc_reserve_pct, reason


def _site_mistakes(source: str, settings: EdgeSettings) -> Iterator[BadInputError]:
    devices = {device.id: (number, device) for number, device in enumerate(settings.devices)}
    for number, name in enumerate(settings.shedding.vital):
        _, device = devices[name]
        if device.priority_class:
            yield BadInputError(
                source,
                f"shedding.vital[{number}]",
                name,
                f"a vital device has class 0, but devices[{devices[name][0]}].priority_class is {device.priority_class}",
            )
    transformer = settings.shedding.transformer
    if transformer is not None and (known := _entry_of(devices[transformer][1])) and known.role is not Role.TRANSFORMER:
        yield BadInputError(
            source, "shedding.transformer", transformer, f"is a {known.role.value}; the thermal rule watches a transformer"
        )
    yield from _listed_mistakes(source, settings)
    for key, value, reason in hold_mistakes(settings.shedding, sample_periods_s(settings)):
        yield BadInputError(source, key, value, reason)
    yield from _timer_mistakes(source, settings)
    for key in ("field_broker", "hub.mqtt"):
        broker = settings.field_broker if key == "field_broker" else settings.hub.mqtt
        if broker is not None and broker.insecure and broker.host not in ("localhost", "127.0.0.1", "::1"):
            yield BadInputError(source, f"{key}.insecure", True, f"plain TCP is for loopback only, not for {broker.host}")


def _listed_mistakes(source: str, settings: EdgeSettings) -> Iterator[BadInputError]:
    """What is wrong with the hub's keys, or what the list they have signed finds wrong with the classes of the file."""
    try:
        trusted_keys(settings.hub.public_keys, source)
        listed = configured_list(settings)
    except BadInputError as error:
        yield error
        return
    rows = {device.id: (number, device) for number, device in enumerate(settings.devices)}
    for name in () if listed is None else listed.devices:
        if name not in rows:
            yield BadInputError(source, "shedding.vital_list", name, "is on the signed list and is not configured")
        elif rows[name][1].priority_class:
            number, device = rows[name]
            reason = f"{name} is on the signed list of vital devices: it needs class 0"
            yield BadInputError(source, f"devices[{number}].priority_class", device.priority_class, reason)


def _timer_mistakes(source: str, settings: EdgeSettings) -> Iterator[BadInputError]:
    reversion, cycle, speed = settings.reversion, settings.cycle, settings.clock.max_speed
    if reversion.timer_s <= reversion.refresh_s:
        reason = f"must outlast reversion.refresh_s ({reversion.refresh_s:g} s), or devices revert between two refreshes"
        yield BadInputError(source, "reversion.timer_s", reversion.timer_s, reason)
    late_s = reversion.refresh_s + 2 * max(cycle.period_s, cycle.floor_wall_s * speed)
    if reversion.refresh_s < reversion.timer_s < late_s:
        reason = f"a refresh may come two cycles late at speed {speed:g}: at least {math.ceil(late_s)} s are needed"
        yield BadInputError(source, "reversion.timer_s", reversion.timer_s, reason)
    elif reversion.timer_s > reversion.refresh_s and 3 * reversion.refresh_s > 2 * reversion.timer_s:
        reason = (
            f"a device is refreshed while a third of its timer is left: at least {1.5 * reversion.refresh_s:g} s are needed"
        )
        yield BadInputError(source, "reversion.timer_s", reversion.timer_s, reason)
    for number, device in enumerate(settings.devices):
        entry = _entry_of(device)
        period_s = max(device.poll_s, entry.message.report_s if entry and entry.message else 0.0)
        if entry and entry.message is None and period_s > settings.cycle.max_input_age_s:
            reason = f"older inputs than cycle.max_input_age_s ({cycle.max_input_age_s:g} s) are not used; poll more often"
            yield BadInputError(source, f"devices[{number}].poll_s", device.poll_s, reason)
    known = [(device, entry) for device in settings.devices if (entry := _entry_of(device)) is not None]
    for line, share in line_loads(known).items():
        if share > MOST:
            reason = f"would be busy polling {share:.0%} of the time, more than {MOST:.0%} leaves no room for orders"
            yield BadInputError(source, "devices", line, f"{reason}: raise poll_s of its devices, or its baud")


def _entry_of(device: DeviceSettings) -> CatalogEntry | None:
    try:
        return catalog_entry(device.catalog)
    except BadInputError:
        return None
