"""Shedding policies over the API."""

from __future__ import annotations

import httpx

from tests.cloud.rooms import HARBOUR, NOW, Rooms, reported

PATH = "/v1/edges/harbour/policy"


async def test_a_policy_is_published_shown_and_followed(client: httpx.AsyncClient, rooms: Rooms) -> None:
    assert (await client.get(PATH)).status_code == 404
    answer = await client.post(PATH, json={"text": "exchange: {import_w: 400000}\n"})
    assert answer.status_code == 202
    made = answer.json()
    assert (made["state"], made["policy"]["exchange"]["import_w"]) == ("published", 400000.0)
    wanted = rooms.desired.of(HARBOUR)
    assert wanted is not None
    assert wanted.desired.policy == made["sha256"]
    rooms.fleet.reported = reported(policy_sha256=made["sha256"])
    shown = (await client.get(PATH)).json()
    assert (shown["state"], shown["reason"]) == ("confirmed", "the edge follows it")


async def test_a_release_keeps_the_sections(client: httpx.AsyncClient) -> None:
    await client.post(PATH, json={"text": "classes: {load03: 2}\n"})
    released = (await client.post(PATH, json={"release": True})).json()
    assert released["policy"]["classes"] == {"load03": 2}
    assert released["policy"]["released_at"].startswith(NOW.isoformat()[:19])


async def test_what_is_no_policy_is_refused_with_key_and_reason(client: httpx.AsyncClient, rooms: Rooms) -> None:
    for body, says in (
        ({"text": "voltage: {hold_s: 1}\n"}, "longer than tap_changer_s"),
        ({}, "nothing to publish"),
        ({"text": "colour: red\n"}, "colour"),
        ({"colour": "red"}, "colour"),
    ):
        answer = await client.post(PATH, json=body)
        assert answer.status_code == 422
        assert says in answer.text
    assert rooms.desired.of(HARBOUR) is None
    assert (await client.get("/v1/edges/nowhere/policy")).status_code == 404


async def test_a_third_party_is_never_shed(client: httpx.AsyncClient, rooms: Rooms) -> None:
    rooms.fleet.third_party = "plant/press"
    answer = await client.post(PATH, json={"release": True})
    assert answer.status_code == 422
    assert "never sheds there" in answer.text
