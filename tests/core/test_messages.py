"""Messages refuse unknown keys and contradictions, and say which key."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from tests.certificates import clean_certificate
from tieline_core import topics
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.base import MAX_STEPS
from tieline_core.messages.command import Action, Command
from tieline_core.messages.plan import DevicePlan, Plan, PlanMode
from tieline_core.messages.telemetry import Hello, Skip, SkipReason, Stream, StreamState
from tieline_core.shedding import ThermalOverloadParameters

AT = datetime(2016, 12, 7, 17, tzinfo=UTC)


def plan(*devices: DevicePlan) -> Plan:
    return Plan(
        plan_id="plan-0001",
        edge_id=EdgeId("harbour"),
        issued_at=AT,
        start=AT,
        step_s=900,
        devices=devices,
        certificate=clean_certificate(AT),
    )


def device(name: str, *values: float | None) -> DevicePlan:
    return DevicePlan(device_id=DeviceId(name), mode=PlanMode.SETPOINT_W, values_w=values)


def test_a_plan_round_trips_and_knows_its_length() -> None:
    made = plan(device("bat1", 0.0, None, -60000.0))
    assert Plan.from_bytes(made.to_bytes(), "test") == made
    assert made.steps == 3


def test_an_empty_plan_has_no_steps() -> None:
    assert plan().steps == 0


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param((device("bat1", 1.0), device("bat2", 1.0, 2.0)), id="ragged"),
        pytest.param((device("bat1", 1.0), device("bat1", 2.0)), id="twice_the_same"),
    ],
)
def test_a_contradictory_plan_is_refused(devices: tuple[DevicePlan, ...]) -> None:
    with pytest.raises(ValidationError):
        plan(*devices)


def test_the_error_names_source_and_key() -> None:
    with pytest.raises(BadInputError) as error:
        Plan.from_bytes(plan(device("bat1", 1.0)).to_bytes().replace(b'"step_s":900', b'"step_s":"soon"'), "down/plan")
    assert (error.value.source, error.value.key) == ("down/plan", "step_s")


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(BadInputError, match="surprise"):
        Plan.from_bytes(plan().to_bytes()[:-1] + b',"surprise":1}', "test")


def test_nan_is_refused() -> None:
    with pytest.raises(ValidationError):
        device("bat1", float("nan"))


def test_too_long_a_message_is_not_parsed() -> None:
    with pytest.raises(BadInputError, match="at most 10 bytes"):
        Plan.from_bytes(b" " * 11, "test", max_bytes=10)


@pytest.mark.parametrize(
    ("action", "value_w"),
    [(Action.SETPOINT_W, None), (Action.LIMIT_W, None), (Action.OPEN, 5.0), (Action.RELEASE, 0.0)],
)
def test_a_command_carries_a_value_exactly_when_its_action_needs_one(action: Action, value_w: float | None) -> None:
    with pytest.raises(ValidationError, match="value_w"):
        Command(
            command_id="cmd-00001",
            edge_id=EdgeId("harbour"),
            device_id=DeviceId("bat1"),
            action=action,
            value_w=value_w,
            expires_at=AT,
            issued_by="operator",
            issued_at=AT,
            reason="test of the border",
        )


def test_a_hello_round_trips() -> None:
    hello = Hello(
        edge_id=EdgeId("harbour"),
        epoch=0,
        boot_id="b",
        nonce="n" * 16,
        streams={Stream.MEASURE: StreamState(next_seq=1, oldest_seq=1, acked_seq=0)},
        software="tieline-edge 0.1.0",
        at=AT,
    )
    assert Hello.from_bytes(hello.to_bytes(), "up/hello") == hello


def test_streams_have_stable_wire_numbers() -> None:
    assert [stream.number for stream in Stream] == [0, 1, 2]


def test_topics_name_their_edge_and_stream() -> None:
    topic = topics.frame("harbour", "measure")
    assert (topics.edge_of(topic), topics.stream_of(topic)) == ("harbour", "measure")
    for other in ("harbour", "x/v1/harbour/up/hello"):
        with pytest.raises(ValueError, match="is no topic"):
            topics.edge_of(other)
    with pytest.raises(ValueError, match="no frame topic"):
        topics.stream_of(topics.hello("harbour"))
    assert topics.sparkplug("DDATA", "harbour", "bat1") == "spBv1.0/tieline/DDATA/harbour/bat1"
    assert topics.sparkplug("NBIRTH", "harbour") == "spBv1.0/tieline/NBIRTH/harbour"
    assert topics.host_state("hub") == "spBv1.0/STATE/hub"
    assert topics.artifact_path("ab") == "/v1/artifacts/ab"
    every = [
        make("harbour") for make in (topics.hello, topics.reported, topics.answer, topics.ack, topics.desired, topics.command)
    ]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    "wrong",
    [{"target_pct": 101.0}, {"restore_pct": 99.0}, {"severe_pct": 90.0}, {"severe_hold_s": 61.0}, {"trip": 100}],
)
def test_shedding_parameters_must_be_ordered(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ThermalOverloadParameters.model_validate(wrong)


@pytest.mark.parametrize("epoch", [2**32 - 1, 2**63 - 1, 2**70])
def test_a_hello_names_no_epoch_that_could_not_be_followed_by_another(epoch: int) -> None:
    with pytest.raises(ValidationError):
        Hello(edge_id=EdgeId("harbour"), epoch=epoch, boot_id="b", nonce="n" * 16, streams={}, software="tieline-edge", at=AT)


@pytest.mark.parametrize("last", [2**62 + 1, 2**64 - 1])
def test_a_skip_names_no_sequence_number_that_no_store_holds(last: int) -> None:
    with pytest.raises(ValidationError):
        Skip(first=1, last=last, reason=SkipReason.EVICTED, readings=0)


NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [{"start": NEVER}, {"issued_at": NEVER}, {"step_s": 86_401}, {"step_s": 10**12}, {"start": datetime(1, 1, 1, tzinfo=UTC)}],
)
def test_a_plan_whose_times_leave_the_calendar_is_refused(wrong: dict[str, object]) -> None:
    """Sums with such an instant raise in the edge's control loop, and again after every restart."""
    good = plan(device("bat1", 0.0)).model_dump()
    assert Plan.model_validate(good).steps == 1
    with pytest.raises(ValidationError):
        Plan.model_validate({**good, **wrong})


def test_a_plan_has_at_most_a_day_of_minutes() -> None:
    with pytest.raises(ValidationError):
        plan(device("bat1", *[0.0] * (MAX_STEPS + 1)))


def test_a_command_that_never_ends_is_refused() -> None:
    row = {
        "command_id": "command-1",
        "edge_id": "harbour",
        "device_id": "bat1",
        "action": "open",
        "expires_at": NEVER,
        "issued_by": "ada",
        "issued_at": AT,
        "reason": "forgotten",
    }
    with pytest.raises(ValidationError, match="expires_at"):
        Command.model_validate(row)
