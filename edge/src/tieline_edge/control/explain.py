"""``why``: the decision in force for a device at an instant, and what became of it, from the trace alone.

The answer is a plain JSON document (:func:`explain`, :func:`timeline`); its words are made by
:mod:`tieline_edge.control.words`, and its arithmetic can be done again (:func:`check`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from tieline_core.errors import BadInputError
from tieline_core.timegrid import from_us, to_us
from tieline_edge.control.replay import action_from_json, question_from_json
from tieline_edge.control.ring import SITE_EVENTS, Line, RingReader, Run
from tieline_edge.control.words import action_words

#: Most lines of a timeline.
MAX_LINES: Final = 1000
#: The agent notes once a minute that it lives; a longer silence than this was an end.
_SILENCE: Final = timedelta(seconds=150)
_WRITES: Final = 6
_DECIDED: Final = ("decision", "heartbeat")


def explain(path: Path, device: str, at: datetime, *, replay: bool = False) -> dict[str, Any]:
    """The decision in force for a device at an instant.

    Args:
        path: File of the trace.
        device: Device id.
        at: Instant, aware.
        replay: Ask the arbiter again with what it was asked then, and compare.

    Returns:
        ``device``, ``at``, ``decided_at``, ``since``, ``action`` and ``words`` of it, ``winner``, ``losers``, ``limits``,
        ``dropped`` (each as band, source, wish, reason), ``interval``, ``notes``, ``ages_s``, ``values``, ``writes``,
        ``away`` (the agent did not run at that instant: words, else None), ``replay`` (see :func:`check`) or None.

    Raises:
        BadInputError: When there is no trace, or nothing about this device at that time: with what there is.
    """
    with RingReader(path) as ring:
        lines = ring.before(device, to_us(at))
        decided = next((line for line in reversed(lines) if line.kind in _DECIDED), None)
        if decided is None:
            raise _nothing(ring, path, device, at)
        body = decided.body
        since_us = min(int(body["since"]), decided.at_us)
        question = _spec_of(ring, body)
        return {
            "device": device,
            "at": at.isoformat(),
            "decided_at": from_us(decided.at_us).isoformat(),
            "since": from_us(since_us).isoformat(),
            "action": body["act"],
            "words": action_words(body["act"]),
            **{name: body[name] for name in ("winner", "losers", "limits", "dropped", "interval", "notes", "ages_s")},
            "values": _values(body.get("q"), device),
            "writes": _writes(lines, since_us),
            "away": _away(ring.runs(), to_us(at)),
            "replay": check(body, question) if replay else None,
        }


def timeline(path: Path, device: str, since: datetime, until: datetime) -> dict[str, Any]:
    """What changed for a device in a span, oldest first: the decision in force at its start, then each change and write.

    Returns:
        ``device``, ``since``, ``until``, ``lines`` (each ``at``, ``kind``, ``words``, ``because``) and ``more``: whether
        :data:`MAX_LINES` cut it short.

    Raises:
        BadInputError: When there is no trace, the span is empty, or nothing is kept of the device in it.
    """
    if since >= until:
        raise BadInputError("--since", "", since.isoformat(), f"has to be before {until.isoformat()}")
    with RingReader(path) as ring:
        before = [line for line in ring.before(device, to_us(since)) if line.kind in _DECIDED][-1:]
        rows = ring.between(device, to_us(since) + 1, to_us(until), 20 * MAX_LINES)
        lines = [_told(line) for line in before]
        held = lines[0]["words"] if lines else None
        for line in rows:
            if line.kind == "refreshed" or (line.kind == "heartbeat" and action_words(line.body["act"]) == held):
                continue
            lines.append(_told(line))
            held = lines[-1]["words"] if line.kind in _DECIDED else held
        if not lines:
            raise _nothing(ring, path, device, until)
    return {
        "device": device,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "lines": lines[:MAX_LINES],
        "more": len(lines) > MAX_LINES or len(rows) == 20 * MAX_LINES,
    }


def alarms(path: Path, since: datetime, until: datetime, most: int = 50) -> list[dict[str, Any]]:
    """Events of a span an operator had to look at, newest first: ``at``, ``severity``, ``code``, ``text``, ``device``.

    Raises:
        BadInputError: When there is no trace.
    """
    with RingReader(path) as ring:
        lines = ring.between(SITE_EVENTS, to_us(since), to_us(until), 20 * MAX_LINES)
    return [{"at": from_us(line.at_us).isoformat(), **line.body} for line in reversed(lines)][:most]


def check(body: dict[str, Any], spec: str | None) -> dict[str, Any]:
    """Ask the arbiter again with what a row holds.

    Returns:
        ``same``: whether it answers what was kept; ``answer`` in words; ``reason`` where it does not, or cannot be asked.
    """
    kept = action_from_json(body["act"])
    if spec is None:
        return {"same": False, "answer": None, "reason": "the question was not kept"}
    try:
        answer = question_from_json(body["q"], spec).answer()
    except (ValidationError, ValueError, KeyError) as error:
        return {"same": False, "answer": None, "reason": f"the question was asked by another version: {error}"[:300]}
    winner = None if answer.winner is None else answer.winner.source
    told = None if body["winner"] is None else body["winner"][1]
    same = answer.action == kept and winner == told
    reason = None if same else f"kept was {action_words(body['act'])} after {told}; this version follows {winner}"
    return {"same": same, "answer": action_words(answer.action), "reason": reason}


def _spec_of(ring: RingReader, body: dict[str, Any]) -> str | None:
    return ring.spec(int(body["spec"])) if "spec" in body else None


def _values(question: dict[str, Any] | None, device: str) -> dict[str, Any]:
    """What the field showed then, by quantity."""
    if question is None:
        return {}
    facts = question.get("facts", {}).get("devices", {}).get(device, {})
    return {name: value for name, value in facts.items() if name != "ages_s" and value is not None}


def _writes(lines: Sequence[Line], since_us: int) -> list[dict[str, Any]]:
    """What became of the writes since a decision; the last one before it when there was none."""
    written = [line for line in lines if line.kind in ("write", "refreshed")]
    return [_write(line) for line in written if line.at_us >= since_us][-_WRITES:] or [_write(line) for line in written[-1:]]


def _write(line: Line) -> dict[str, Any]:
    if line.kind == "refreshed":
        first = from_us(int(line.body["first"])).isoformat()
        return {"at": from_us(line.at_us).isoformat(), "refreshed": line.body["count"], "first": first}
    return {
        "at": from_us(line.at_us).isoformat(),
        "words": action_words(line.body["act"]),
        **{name: line.body[name] for name in ("state", "text", "source", "refresh")},
    }


def _told(line: Line) -> dict[str, Any]:
    if line.kind == "write":
        because = f"{line.body['state']}: {line.body['text']}"
        return {
            "at": from_us(line.at_us).isoformat(),
            "kind": "write",
            "words": action_words(line.body["act"]),
            "because": because,
        }
    winner = line.body["winner"]
    because = "nobody claims it" if winner is None else f"{winner[0]} {winner[1]}: {winner[3]}"
    notes = "; ".join(line.body["notes"])
    return {
        "at": from_us(line.at_us).isoformat(),
        "kind": "decision",
        "words": action_words(line.body["act"]),
        "because": because + (f" ({notes})" if notes else ""),
    }


def _away(runs: Sequence[Run], at_us: int) -> str | None:
    """Words for an instant at which the agent did not run."""
    silence_us = _SILENCE // timedelta(microseconds=1)
    before = [run for run in runs if run.began_us <= at_us]
    if not before:
        return None
    last = before[-1]
    after = next((run for run in runs if run.began_us > at_us), None)
    lived_us = last.seen_us + (0 if last.ended or after is not None else silence_us)
    if at_us <= lived_us:
        return None
    end = "was stopped" if last.ended else "is last known to have run"
    again = f"and began again {from_us(after.began_us).isoformat(timespec='seconds')}" if after else "and has not run since"
    return (
        f"the agent {end} {from_us(last.seen_us).isoformat(timespec='seconds')} {again}: "
        "devices were left to their own timers and positions"
    )


def _nothing(ring: RingReader, path: Path, device: str, at: datetime) -> BadInputError:
    known = ring.devices()
    if device not in known:
        near = difflib.get_close_matches(device, known, 1)
        guess = f"; did you mean {near[0]}?" if near else "."
        return BadInputError(
            str(path), "device", device, f"nothing is kept about it{guess} There is: {', '.join(known) or 'nothing yet'}"
        )
    span = ring.span(device)
    if span is None:
        return BadInputError(str(path), "device", device, "nothing is kept about it any longer")
    first, last = (from_us(one).isoformat(timespec="seconds") for one in span)
    return BadInputError(
        str(path),
        "at",
        at.isoformat(timespec="seconds"),
        f"nothing is kept about {device} up to then: kept is {first} to {last}",
    )
