"""Where the signed list of vital devices lies: the file of the configuration, and the copy of what was in force."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tieline_core.errors import BadInputError
from tieline_core.messages.vital import MAX_LIST_BYTES
from tieline_edge.control.state_file import StateFile
from tieline_edge.settings import EdgeSettings
from tieline_edge.shedding.vital_list import SignedList, in_force, read_list
from tieline_edge.sync.trusted import trusted_keys

#: Name of the copy in the state folder.
KEPT: Final = "vital.json"


def configured_list(settings: EdgeSettings) -> SignedList | None:
    """The list in the file the configuration names; None when it names none.

    Raises:
        BadInputError: It cannot be read, or is no list signed for this edge.
    """
    path = settings.shedding.vital_list
    if path is None:
        return None
    return read_list(_bytes(path), settings.edge_id, trusted_keys(settings.hub.public_keys), str(path))


def listed_vital(settings: EdgeSettings) -> SignedList | None:
    """The list in force; a newer one is kept, so that it stays in force when its file or its key is taken away.

    Raises:
        BadInputError: The file, or what was kept, is no list signed for this edge; or the file is an older list.
        OSError: What is new cannot be kept.
    """
    kept_path = settings.state_dir / KEPT
    keys = trusted_keys(settings.hub.public_keys)
    kept = read_list(_bytes(kept_path), settings.edge_id, keys, str(kept_path)) if kept_path.exists() else None
    listed = in_force(configured_list(settings), kept)
    if listed is not None and (kept is None or listed.envelope != kept.envelope):
        StateFile(kept_path).write(listed.envelope.decode("ascii"))
    return listed


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise BadInputError(str(path), "", None, f"cannot be read: {error.strerror or error}") from error
