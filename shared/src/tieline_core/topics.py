"""Every MQTT topic and HTTP path that edge and hub share, as functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tieline_core.ids import EdgeId

ROOT: Final = "tieline/v1"
SPARKPLUG: Final = "spBv1.0"
#: Sparkplug group of all Tieline edges.
GROUP: Final = "tieline"


def hello(edge: str) -> str:
    """Edge to hub: who I am and where my streams stand (QoS 1)."""
    return f"{ROOT}/{edge}/up/hello"


def frame(edge: str, stream: str) -> str:
    """Edge to hub: one durable frame (QoS 1)."""
    return f"{ROOT}/{edge}/up/frame/{stream}"


def reported(edge: str) -> str:
    """Edge to hub: reported state, what it runs and how it stands (QoS 1, retained)."""
    return f"{ROOT}/{edge}/up/reported"


def answer(edge: str) -> str:
    """Hub to edge: answer to a hello, the granted epoch and the watermarks (QoS 1)."""
    return f"{ROOT}/{edge}/down/hello"


def ack(edge: str) -> str:
    """Hub to edge: committed sequence numbers (QoS 1)."""
    return f"{ROOT}/{edge}/down/ack"


def desired(edge: str) -> str:
    """Hub to edge: signed desired state (QoS 1, retained)."""
    return f"{ROOT}/{edge}/down/desired"


def command(edge: str) -> str:
    """Hub to edge: signed operator command (QoS 1, never retained)."""
    return f"{ROOT}/{edge}/down/command"


def request(edge: str) -> str:
    """Hub to edge: signed request to count or to send again (QoS 1, never retained)."""
    return f"{ROOT}/{edge}/down/request"


def reply(edge: str) -> str:
    """Edge to hub: answers to requests (QoS 1)."""
    return f"{ROOT}/{edge}/up/reply"


def edge_of(topic: str) -> EdgeId:
    """The edge a Tieline topic belongs to.

    Raises:
        ValueError: When it is no Tieline topic.
    """
    parts = topic.split("/")
    if len(parts) < 5 or "/".join(parts[:2]) != ROOT:
        raise ValueError(f"{topic!r} is no topic below {ROOT}/")
    return EdgeId(parts[2])


def stream_of(topic: str) -> str:
    """The stream of a frame topic.

    Raises:
        ValueError: When it is no frame topic.
    """
    parts = topic.split("/")
    if len(parts) != 6 or parts[3:5] != ["up", "frame"]:
        raise ValueError(f"{topic!r} is no frame topic")
    return parts[5]


def sparkplug(kind: str, edge: str, device: str | None = None, group: str = GROUP) -> str:
    """Sparkplug B topic of a node (NBIRTH, NDATA, ...) or of one of its devices (DBIRTH, ...)."""
    return f"{SPARKPLUG}/{group}/{kind}/{edge}" + (f"/{device}" if device else "")


def host_state(host: str) -> str:
    """Sparkplug B 3.0 STATE topic of a host application."""
    return f"{SPARKPLUG}/STATE/{host}"


def artifact_path(sha256: str) -> str:
    """HTTP path below the hub's base address where an artifact can be pulled by its content hash."""
    return f"/v1/artifacts/{sha256}"


@dataclass(frozen=True, slots=True)
class SparkplugTopic:
    """The parts of a Sparkplug B topic; names of third parties are not canonical ids of ours."""

    group: str
    kind: str
    node: str
    device: str | None = None


_NODE_KINDS: Final = frozenset({"NBIRTH", "NDEATH", "NDATA", "NCMD"})
_DEVICE_KINDS: Final = frozenset({"DBIRTH", "DDEATH", "DDATA", "DCMD"})


def parse_sparkplug(topic: str) -> SparkplugTopic:
    """Read a topic of a node or device; STATE topics are no such topics.

    Raises:
        ValueError: When it is no Sparkplug B topic of a node or device.
    """
    parts = topic.split("/")
    if len(parts) in (4, 5) and parts[0] == SPARKPLUG and all(parts):
        device = parts[4] if len(parts) == 5 else None
        if parts[2] in (_NODE_KINDS if device is None else _DEVICE_KINDS):
            return SparkplugTopic(parts[1], parts[2], parts[3], device)
    raise ValueError(f"{topic!r} is no Sparkplug B topic of a node or device")
