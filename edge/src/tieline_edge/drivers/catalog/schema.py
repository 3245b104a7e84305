"""The published JSON Schema of a catalogue entry; ``python -m tieline_edge.drivers.catalog.schema`` writes it anew.

Editors that know JSON Schema check an entry while it is typed: begin it with
``# yaml-language-server: $schema=catalog.schema.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tieline_edge.drivers.catalog.entry import CatalogEntry

FILE: Final = Path(__file__).with_name("catalog.schema.json")


def schema_text() -> str:
    """The schema as it is published."""
    tree = CatalogEntry.model_json_schema(by_alias=True)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tieline catalogue entry",
        "description": "One device model of the edge agent's catalogue, one YAML file each.",
    }
    return json.dumps({**tree, **head}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
