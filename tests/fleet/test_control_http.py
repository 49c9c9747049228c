"""The HTTP surface of a fleet that is up: what it gives, what it refuses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from control_support import make_bundle, sha

from edgeward.errors import (
    BundleError,
    FleetError,
    IntegrityError,
    ProofError,
    TrustError,
    UsageError,
)
from edgeward.fleet.control.client import Client
from edgeward.fleet.control.home import FleetHome
from edgeward.fleet.control.problems import ConflictError, DeniedError, FullError, NotThereError
from edgeward.fleet.control.releases import create_release, next_sequence, publish
from edgeward.fleet.control.up import Options, fleet
from edgeward.fleet.protocol.release import Release
from edgeward.fleet.trust.envelope import seal, unseal
from edgeward.fleet.trust.keys import SigningKey, generate
from edgeward.runtimes.bundle.read import open_bundle

DATA = bytes(range(256)) * 40
DIGEST = hashlib.sha256(DATA).hexdigest()
POOL = urllib3.PoolManager(retries=False)
QUOTA = 200_000


@dataclass(frozen=True)
class Up:
    """A fleet that is up, its operator, its release key."""

    home: Path
    url: str
    client: Client
    key: SigningKey


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("http")
    home = folder / "home"
    with fleet(Options(home, http_port=0, quota_bytes=QUOTA)) as urls:
        key = generate(folder / "key")
        FleetHome(home).trust_release_key(key.public)
        client = Client.of_home(home)
        path = folder / "blob"
        path.write_bytes(DATA)
        client.put_blob(DIGEST, path)
        yield Up(home, urls.http, client, key)


def get(up: Up, path: str, method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
    return POOL.request(method, up.url + path, headers=headers, redirect=False)


def send(
    up: Up, method: str, path: str, body: bytes = b"", token: str | None = None, **headers: str
) -> urllib3.BaseHTTPResponse:
    token = FleetHome(up.home).read_token() if token is None else token
    headers["authorization"] = f"Bearer {token}"
    return POOL.request(method, up.url + path, body=body, headers=headers, redirect=False)


def test_a_whole_blob(up: Up) -> None:
    answer = get(up, f"/v1/blobs/{DIGEST}")
    assert (answer.status, answer.data) == (200, DATA)
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("header", "expected", "content_range"),
    [
        ("bytes=0-0", DATA[:1], f"bytes 0-0/{len(DATA)}"),
        ("bytes=100-199", DATA[100:200], f"bytes 100-199/{len(DATA)}"),
        ("bytes=10000-", DATA[10000:], f"bytes 10000-{len(DATA) - 1}/{len(DATA)}"),
        ("bytes=-5", DATA[-5:], f"bytes {len(DATA) - 5}-{len(DATA) - 1}/{len(DATA)}"),
        ("bytes=5-99999999", DATA[5:], f"bytes 5-{len(DATA) - 1}/{len(DATA)}"),
        ("bytes=-99999999", DATA, f"bytes 0-{len(DATA) - 1}/{len(DATA)}"),
    ],
)
def test_one_range(up: Up, header: str, expected: bytes, content_range: str) -> None:
    answer = get(up, f"/v1/blobs/{DIGEST}", range=header)
    assert (answer.status, answer.data) == (206, expected)
    assert answer.headers["content-range"] == content_range
    assert answer.headers["content-length"] == str(len(expected))


def test_several_ranges_are_the_whole(up: Up) -> None:
    answer = get(up, f"/v1/blobs/{DIGEST}", range="bytes=0-1,5-6")
    assert (answer.status, answer.data) == (200, DATA)


@pytest.mark.parametrize("header", [f"bytes={len(DATA)}-", "bytes=999999999999999-", "bytes=-0"])
def test_a_range_beyond_the_end(up: Up, header: str) -> None:
    answer = get(up, f"/v1/blobs/{DIGEST}", range=header)
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


def test_if_range_with_another_etag_is_the_whole(up: Up) -> None:
    other = {"if-range": '"other"', "range": "bytes=0-1"}
    assert get(up, f"/v1/blobs/{DIGEST}", **other).status == 200
    same = {"if-range": f'"{DIGEST}"', "range": "bytes=0-1"}
    assert get(up, f"/v1/blobs/{DIGEST}", **same).status == 206


def test_head_says_the_length_and_sends_nothing(up: Up) -> None:
    answer = get(up, f"/v1/blobs/{DIGEST}", method="HEAD")
    assert (answer.status, answer.data) == (200, b"")
    assert answer.headers["content-length"] == str(len(DATA))
    assert up.client.has_blob(DIGEST)
    assert not up.client.has_blob(sha("nothing"))


def test_a_wrong_digest_never_appears(up: Up) -> None:
    answer = send(up, "PUT", f"/v1/blobs/{sha('right')}", b"wrong")
    assert answer.status == 422
    assert json.loads(answer.data)["error"] == "IntegrityError"
    assert get(up, f"/v1/blobs/{sha('right')}").status == 404


def test_above_the_quota_is_507(up: Up) -> None:
    body = b"x" * (QUOTA + 1)
    digest = hashlib.sha256(body).hexdigest()
    answer = send(up, "PUT", f"/v1/blobs/{digest}", body)
    assert answer.status == 507
    assert get(up, f"/v1/blobs/{digest}").status == 404


@pytest.mark.parametrize(
    ("method", "path", "size"),
    [
        ("POST", "/v1/rollouts", 70_000),
        ("POST", "/v1/releases", 70_000),
        ("PUT", f"/v1/manifests/{sha('m')}", 17 * 2**20),
    ],
)
def test_oversized_bodies_are_refused(up: Up, method: str, path: str, size: int) -> None:
    answer = send(up, method, path, b"{" + b" " * size)
    assert answer.status == 413
    assert "too large" in json.loads(answer.data)["what"]


OPERATOR = [
    ("GET", "/v1/devices"),
    ("GET", "/v1/devices/d0"),
    ("DELETE", "/v1/devices/d0"),
    ("POST", "/v1/devices/d0/labels"),
    ("POST", "/v1/devices/d0/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/j-1"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/status"),
    ("GET", "/v1/events"),
    ("GET", "/v1/releases"),
    ("POST", "/v1/releases"),
    ("GET", "/v1/rollouts"),
    ("POST", "/v1/rollouts"),
    ("GET", "/v1/rollouts/r1"),
    ("POST", "/v1/rollouts/r1/halt"),
    ("POST", "/v1/rollouts/r1/resume"),
    ("PUT", f"/v1/blobs/{sha('new')}"),
    ("PUT", f"/v1/manifests/{sha('new')}"),
]


@pytest.mark.parametrize(("method", "path"), OPERATOR)
@pytest.mark.parametrize("token", ["", "wrong", "é" * 40])
def test_operators_need_the_token(up: Up, method: str, path: str, token: str) -> None:
    answer = send(up, method, path, token=token.encode().decode("latin-1"))
    assert answer.status == 401
    assert json.loads(answer.data)["error"] == "DeniedError"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/blobs/..%2f..%2foperator.token",
        "/v1/blobs/../../operator.token",
        f"/v1/blobs/{DIGEST.upper()}",
        f"/v1/blobs/{DIGEST}%00",
        "/v1/blobs/%00",
        "/v1/manifests/..%2f..%2foperator.token",
        "/v1/manifests/%2e%2e",
        "/v1/devices/..%2fx/desired",
        "/v1/devices/%F0%9F%92%A3/desired",
        "/v1/releases/%27%20OR%201=1",
        "/v1/devices/d0/desired/x",
        "/operator.token",
        "//etc/passwd",
    ],
)
def test_path_tricks_find_nothing(up: Up, path: str) -> None:
    answer = get(up, path)
    assert answer.status in (400, 404)
    assert set(json.loads(answer.data)) == {"error", "what", "why", "next"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"model": "a"}',
        b'{"model": "kiosk", "version": "1", "to": "all", "waves": [0.5]}',
        b'{"model": "kiosk", "version": "1", "to": "all", "waves": [NaN]}',
        b'{"model": "kiosk", "version": "1", "to": "all", "wave": [1.0]}',
        b'{"model": "kiosk", "version": "1", "to": "all", "soak_seconds": -1}',
        b'{"model": "kiosk", "version": "1", "to": "all", "max_failures": 1e999}',
        b"[" * 50_000,
    ],
)
def test_requests_that_make_no_sense(up: Up, body: bytes) -> None:
    answer = send(up, "POST", "/v1/rollouts", body)
    assert answer.status == 400, answer.data


def test_unknown_things_are_404_with_words(up: Up) -> None:
    for call in (up.client.device, up.client.rollout, up.client.halt, up.client.forget):
        with pytest.raises(NotThereError):
            call("nobody")
    with pytest.raises(UsageError):
        up.client.stats(by="moon")
    with pytest.raises(NotThereError, match="No release"):
        up.client.create_rollout({"model": "x", "version": "1", "to": "all"})


def test_trust_names_the_keys_and_the_broker(up: Up) -> None:
    trust = up.client.trust()
    assert trust["release_keys"] == [up.key.public.hex]
    assert trust["mqtt"].startswith("mqtt://127.0.0.1:")
    assert [len(key) for key in trust["controller_keys"]] == [64]


def bundles(folder: Path, *names: str) -> list[Path]:
    return [make_bundle(folder / name, target=name, text=f"{folder.name}-{name}") for name in names]


def test_a_release_is_made_and_published(up: Up, tmp_path: Path) -> None:
    made = bundles(tmp_path, "kiosk-x86", "jetson-orin-nano")
    sealed = create_release("kiosk", "1.0.0", made, up.key, sequence=1)
    lines: list[str] = []
    publish(sealed, up.client, lines.append)
    assert len(lines) == 3  # the two models, and the configuration that they share
    again: list[str] = []
    publish(sealed, up.client, again.append)
    assert again == []
    found = get(up, f"/v1/releases/{sealed.digest}")
    assert unseal(found.data, Release, [up.key.public]) == sealed.release
    bundle = open_bundle(made[0])
    manifest = get(up, f"/v1/manifests/{bundle.digest}")
    assert manifest.data == (made[0] / "manifest.json").read_bytes()
    for file in bundle.manifest.files:
        assert get(up, f"/v1/blobs/{file.sha256}").data == (made[0] / file.path).read_bytes()
    assert next_sequence(up.client.releases(), "kiosk") == 2


def test_a_sequence_never_goes_back(up: Up, tmp_path: Path) -> None:
    made = bundles(tmp_path, "kiosk-x86")
    publish(create_release("steps", "2.0.0", made, up.key, sequence=5), up.client)
    for version, sequence in (("2.1.0", 5), ("1.9.0", 4)):
        sealed = create_release("steps", version, made, up.key, sequence=sequence)
        with pytest.raises(ConflictError, match="sequence"):
            publish(sealed, up.client)
    with pytest.raises(ConflictError):
        publish(create_release("steps", "2.0.0", made, up.key, sequence=6), up.client)


def test_a_stranger_releases_nothing(up: Up, tmp_path: Path) -> None:
    stranger = generate(tmp_path / "stranger")
    made = bundles(tmp_path, "kiosk-x86")
    sealed = create_release("stranger", "1.0.0", made, stranger, sequence=1)
    with pytest.raises(TrustError, match="No trusted key"):
        publish(sealed, up.client)
    changed = seal(sealed.release, up.key)
    changed["signed"]["version"] = "9.9.9"
    with pytest.raises(TrustError, match="No trusted key"):
        up.client.post_release(changed)


def test_a_release_comes_after_all_that_it_names(up: Up, tmp_path: Path) -> None:
    made = bundles(tmp_path, "kiosk-x86")
    sealed = create_release("early", "1.0.0", made, up.key, sequence=1)
    with pytest.raises(ConflictError, match="manifest"):
        up.client.post_release(sealed.envelope)
    bundle = sealed.bundles[0]
    up.client.put_manifest(bundle.digest, (bundle.path / "manifest.json").read_bytes())
    with pytest.raises(ConflictError, match="is not here"):
        up.client.post_release(sealed.envelope)


def test_a_release_says_what_its_manifests_say(up: Up, tmp_path: Path) -> None:
    made = bundles(tmp_path, "kiosk-x86")
    sealed = create_release("liar", "1.0.0", made, up.key, sequence=1)
    variant = sealed.release.variants[0].model_copy(update={"target": "jetson-orin-nano"})
    release = sealed.release.model_copy(update={"variants": [variant]})
    publish(create_release("honest", "1.0.0", made, up.key, sequence=1), up.client)
    with pytest.raises(BundleError, match="manifest does not"):
        up.client.post_release(seal(release, up.key))


def test_a_manifest_under_another_name_is_refused(up: Up, tmp_path: Path) -> None:
    data = (make_bundle(tmp_path / "b", text="m") / "manifest.json").read_bytes()
    with pytest.raises(IntegrityError):
        up.client.put_manifest(sha("other"), data)
    with pytest.raises(BundleError):
        up.client.put_manifest(sha("other"), b'{"schema_version": "1.0"}')


def test_bundles_without_a_proof_need_leave(up: Up, tmp_path: Path) -> None:
    made = [make_bundle(tmp_path / "b", text="degraded", degraded=True)]
    with pytest.raises(ProofError, match="has not proved itself"):
        create_release("kiosk", "3.0.0", made, up.key, sequence=3)
    sealed = create_release("kiosk", "3.0.0", made, up.key, sequence=3, allow_degraded=True)
    assert sealed.release.variants[0].degraded


def test_two_bundles_of_one_target_are_refused(up: Up, tmp_path: Path) -> None:
    made = [make_bundle(tmp_path / n, text=n) for n in ("a", "b")]
    with pytest.raises(UsageError, match="Two bundles are for kiosk-x86"):
        create_release("kiosk", "3.0.0", made, up.key, sequence=3)


@pytest.mark.parametrize(("model", "version"), [("../x", "1"), ("a b", "1"), ("k", "1/2")])
def test_names_that_are_none_are_refused(up: Up, tmp_path: Path, model: str, version: str) -> None:
    with pytest.raises(UsageError):
        create_release(model, version, [make_bundle(tmp_path / "b")], up.key, sequence=1)


def test_a_damaged_bundle_is_not_released(up: Up, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    (bundle / "model.onnx").write_bytes(b"weightz")
    with pytest.raises(IntegrityError):
        create_release("kiosk", "3.0.0", [bundle], up.key, sequence=3)


def test_errors_cross_the_wire_as_they_are(up: Up, tmp_path: Path) -> None:
    with pytest.raises(DeniedError) as caught:
        Client(up.url, "wrong").devices()
    assert caught.value.exit_code == 6
    big = tmp_path / "big"
    big.write_bytes(b"y" * (QUOTA + 1))
    with pytest.raises(FullError):
        up.client.put_blob(hashlib.sha256(big.read_bytes()).hexdigest(), big)
    with pytest.raises(FleetError, match="No controller answers"):
        Client("http://127.0.0.1:9", "x").devices()


def test_a_second_controller_on_the_home_is_refused(up: Up) -> None:
    with pytest.raises(ConflictError, match="up already"), fleet(Options(up.home, http_port=0)):
        pass
    assert up.client.status()["version"]


def test_a_port_that_is_taken_has_words(up: Up, tmp_path: Path) -> None:
    port = int(up.url.rpartition(":")[2])
    options: dict[str, Any] = {"home": tmp_path / "other", "http_port": port}
    with pytest.raises(FleetError, match="cannot listen on"), fleet(Options(**options)):
        pass
    mqtt = int(up.client.trust()["mqtt"].rpartition(":")[2])
    taken = Options(tmp_path / "other", http_port=0, mqtt_port=mqtt)
    with pytest.raises(FleetError, match="cannot listen on"), fleet(taken):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org"])  # noqa: S104 - refused
def test_only_loopback_for_now(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="does not listen"), fleet(Options(tmp_path, host=host)):
        pass


@pytest.mark.parametrize("broker", ["moon", "http://x:1", "mqtt://u:p@h:1", "mqtt://h:99999"])
def test_brokers_that_are_none(tmp_path: Path, broker: str) -> None:
    with pytest.raises(UsageError), fleet(Options(tmp_path, http_port=0, broker=broker)):
        pass


def test_secrets_are_for_their_owner_only(up: Up) -> None:
    for name in ("operator.token", "keys/controller/private.pem"):
        assert (up.home / name).stat().st_mode & 0o777 == 0o600
