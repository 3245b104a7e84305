"""Every policy against a real secured server; servers that must not be believed, users, and what is told of each."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.ports import free_port
from tests.edge.drivers.field import EDGE, MemoryRecorder, make_context
from tests.edge.drivers.opcua_server import SERVER_URI, VALUES, Bay, Secret, Users, server_secret, serving
from tieline_core.clock import ManualClock, SystemClock
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError, Driver
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.opcua.pki import Pki
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings

#: What the server knows and what it does not.
GOOD_WORD, BAD_WORD = "right", "wrong"
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")


@pytest.fixture(scope="module")
def secret() -> Secret:
    return server_secret()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(secret: Secret) -> AsyncIterator[Bay]:
    async with serving(free_port(), secret=secret, users=Users({"tieline": GOOD_WORD})) as bay:
        yield bay


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the edge's own key and certificate: making a key is slow."""
    folder = tmp_path_factory.mktemp("own")
    Pki(folder, EDGE).identity()
    return folder


@pytest.fixture
def pki(own: Path, tmp_path: Path, secret: Secret) -> Pki:
    """The edge's own identity, and a trust list that holds the server."""
    folder = tmp_path / "pki"
    (folder / "trusted").mkdir(parents=True)
    (folder / "own").symlink_to(own / "own")
    (folder / "trusted" / "bay.der").write_bytes(secret.certificate)
    return Pki(folder, EDGE)


def device(
    bay: Bay, tmp_path: Path, policy: str = "Basic256Sha256", mode: str = "SignAndEncrypt", password: str = GOOD_WORD
) -> DeviceSettings:
    (tmp_path / "password").write_text(f"{password}\n", encoding="utf-8")
    user = {"username": "tieline", "password_file": str(tmp_path / "password")}
    return bay.settings(opcua={"security_policy": policy, "security_mode": mode, "timeout_s": 5.0, **user})


def opened(settings: DeviceSettings, pki: Pki | None) -> tuple[Driver, MemoryRecorder]:
    context, recorder = make_context()
    with_pki = DriverContext(context.edge_id, context.clock, recorder, context.image, pki=pki)
    return open_driver(settings, EDGE, with_pki), recorder


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mode", ["SignAndEncrypt", "Sign"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_a_secured_bay_is_read_with_each_policy_by_a_user_with_a_password(
    server: Bay, pki: Pki, tmp_path: Path, policy: str, mode: str
) -> None:
    driver, recorder = opened(device(server, tmp_path, policy, mode), pki)
    async with driver:
        readings = {reading.point.quantity: reading.value for reading in await driver.read()}
    assert readings["p_w"] == 412000.0
    assert len(readings) == len(VALUES)
    assert recorder.events == []


@pytest.mark.asyncio(loop_scope="module")
async def test_an_unknown_server_is_rejected_with_its_thumbprint_and_let_in_once_it_is_trusted(
    server: Bay, pki: Pki, tmp_path: Path, secret: Secret
) -> None:
    (pki.folder / "trusted" / "bay.der").unlink()
    driver, _ = opened(device(server, tmp_path), pki)
    print_ = hashlib.sha1(secret.certificate, usedforsecurity=False).hexdigest().upper()
    with pytest.raises(DevicePermanentError, match=f"is not trusted.*rejected/{print_}.der.*--trust {print_}"):
        async with driver:
            pass
    assert (pki.folder / "rejected" / f"{print_}.der").read_bytes() == secret.certificate
    pki.trust(":".join(print_[at : at + 2] for at in range(0, len(print_), 2)).lower())
    async with driver:
        assert len(await driver.read()) == len(VALUES)
    assert pki.rejected() == {}


@pytest.mark.asyncio(loop_scope="module")
async def test_an_expired_certificate_is_refused_although_it_is_trusted(server: Bay, pki: Pki, tmp_path: Path) -> None:
    late = Pki(pki.folder, EDGE, ManualClock(SystemClock().now() + timedelta(days=366)))
    with pytest.raises(DevicePermanentError, match="has expired on"):
        async with opened(device(server, tmp_path), late)[0]:
            pass


@pytest.mark.asyncio(loop_scope="module")
async def test_a_certificate_that_ends_soon_is_told_once_a_day(server: Bay, pki: Pki, tmp_path: Path) -> None:
    wall = ManualClock(SystemClock().now() + timedelta(days=336))
    driver, recorder = opened(device(server, tmp_path), Pki(pki.folder, EDGE, wall))
    for _ in range(2):
        async with driver:
            await driver.read()
    assert recorder.codes() == ["opcua.certificate_expires"]
    assert "the server's OPC-UA certificate" in recorder.events[0].text
    assert "ends in 28 days" in recorder.events[0].text


@pytest.mark.asyncio(loop_scope="module")
async def test_a_wrong_password_is_told_in_words(server: Bay, pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(DevicePermanentError, match="refuses the user or its password"):
        async with opened(device(server, tmp_path, password=BAD_WORD), pki)[0]:
            pass
    with pytest.raises(DevicePermanentError, match=r"wants a user|refuses the user"):
        async with opened(server.settings(opcua={"security_policy": "Basic256Sha256", "timeout_s": 5.0}), pki)[0]:
            pass


async def test_an_impostor_and_a_server_without_the_wanted_policy_give_no_session(
    pki: Pki, tmp_path: Path, secret: Secret
) -> None:
    from asyncua import ua

    # It shows the certificate that is trusted, but has another key.
    stolen = Secret(server_secret().key, secret.certificate)
    signs_only = [ua.SecurityPolicyType.Basic256Sha256_Sign]
    async with serving(free_port(), secret=stolen, policies=signs_only) as impostor:
        wanted = {"security_policy": "Basic256Sha256", "security_mode": "Sign", "timeout_s": 0.5}
        with pytest.raises((DevicePermanentError, DeviceTransientError), match=r"opc.tcp.*(no session|refuses)"):
            async with opened(impostor.settings(opcua=wanted), pki)[0]:
                pass
        strong = {"security_policy": "Aes256_Sha256_RsaPss", "timeout_s": 5.0}
        with pytest.raises(
            DevicePermanentError, match=r"offers no Aes256_Sha256_RsaPss/SignAndEncrypt; it has Basic256Sha256/Sign"
        ):
            async with opened(impostor.settings(opcua=strong), pki)[0]:
                pass


@pytest.mark.asyncio(loop_scope="module")
async def test_without_a_folder_for_certificates_only_insecure_servers_can_be_reached(server: Bay, tmp_path: Path) -> None:
    with pytest.raises(DevicePermanentError, match="no folder for the edge's own certificate"):
        async with opened(device(server, tmp_path), None)[0]:
            pass


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"username": "x"}, "belong together"),
        ({"username": "x", "password_file": "/x", "insecure": True}, "plain text"),
        ({"insecure": True, "security_policy": "Basic256Sha256"}, "not both"),
        ({"security_policy": "Basic128Rsa15"}, "Input should be"),
        ({"url": "opc.tcp://user:secret@host:4840"}, "username and password_file are keys of their own"),
    ],
)
def test_a_configuration_that_would_be_half_secure_is_refused(place: dict[str, object], reason: str) -> None:
    row = {"id": "tr1", "catalog": "transformer-bay-opcua", "opcua": {"url": "opc.tcp://x:4840", **place}}
    with pytest.raises(ValueError, match=reason):
        DeviceSettings.model_validate(row)


def test_security_is_on_unless_it_is_switched_off() -> None:
    row = {"id": "tr1", "catalog": "transformer-bay-opcua", "opcua": {"url": "opc.tcp://127.0.0.1:4840"}}
    place = DeviceSettings.model_validate(row).opcua
    assert place is not None
    assert (place.insecure, place.security_policy, place.security_mode) == (False, "Basic256Sha256", "SignAndEncrypt")


def test_the_server_uri_is_what_the_test_servers_call_themselves(secret: Secret, pki: Pki) -> None:
    assert pki.check(secret.certificate, SERVER_URI, "opc.tcp://bay", "bay").serial_number
