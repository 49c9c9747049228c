"""Reading a bundle from a stranger: every lie has an error of its own."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeward.errors import (
    BundleError,
    EdgewardError,
    IntegrityError,
    ManifestError,
    UnsafePathError,
)
from edgeward.runtimes.bundle import paths
from edgeward.runtimes.bundle.manifest import MANIFEST_NAME
from edgeward.runtimes.bundle.read import Bundle, open_bundle

FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle that may be spoiled."""
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


def document(bundle: Path) -> Any:
    return json.loads((bundle / MANIFEST_NAME).read_text())


def rewrite(bundle: Path, **changes: Any) -> None:
    (bundle / MANIFEST_NAME).write_text(json.dumps({**document(bundle), **changes}))


def with_file(bundle: Path, **changes: Any) -> None:
    files = document(bundle)["files"]
    rewrite(bundle, files=[{**files[0], **changes}, *files[1:]])


def test_a_whole_bundle_opens(bundle: Path, tiny_bundle: Bundle) -> None:
    opened = open_bundle(bundle)
    assert opened.digest == tiny_bundle.digest
    assert opened.entry.is_file()


def test_the_digest_names_the_content_not_the_spelling(bundle: Path, tiny_bundle: Bundle) -> None:
    spelled = dict(reversed(list(document(bundle).items())))
    (bundle / MANIFEST_NAME).write_text(json.dumps(spelled, indent=7))
    os.utime(bundle / MANIFEST_NAME, (1, 1))
    assert open_bundle(bundle).digest == tiny_bundle.digest
    rewrite(bundle, name="other")
    assert open_bundle(bundle).digest != tiny_bundle.digest


@pytest.mark.parametrize(
    "path",
    [
        *("../out", "a/../../out", "/etc/passwd", "a//b", "./a", "a/.", ""),
        *("a\\b", "C:/x", "a\x00b", "a\nb", "a\u202eb", "con", "NUL.txt", "a.", "a "),
        *("manifest.json", "x" * 201, "/".join(["a"] * 300)),
    ],
)
def test_a_path_that_leaves_or_misleads_is_refused(bundle: Path, path: str) -> None:
    with_file(bundle, path=path)
    with pytest.raises(ManifestError, match="schema"):
        open_bundle(bundle)


@pytest.mark.parametrize(("first", "second"), [("A/b", "a/B"), ("x", "x/y"), ("é", "e\u0301")])
def test_paths_that_collide_on_some_file_system_are_refused(first: str, second: str) -> None:
    assert paths.collisions([first, second])
    assert not paths.collisions([first, "other"])


def link(bundle: Path) -> None:
    entry = bundle / document(bundle)["entry"]
    entry.rename(bundle.parent / "outside")
    entry.symlink_to(bundle.parent / "outside")


def link_folder(bundle: Path) -> None:
    (bundle / "onnx").rename(bundle.parent / "outside")
    (bundle / "onnx").symlink_to(bundle.parent / "outside")


def pipe(bundle: Path) -> None:
    entry = bundle / document(bundle)["entry"]
    entry.unlink()
    os.mkfifo(entry)


@pytest.mark.parametrize("spoil", [link, link_folder, pipe])
def test_what_is_not_a_plain_file_is_refused(bundle: Path, spoil: Callable[[Path], None]) -> None:
    spoil(bundle)
    with pytest.raises(UnsafePathError):
        open_bundle(bundle)


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_a_manifest_that_is_no_plain_file_is_refused(
    bundle: Path, put: Callable[[Path], None]
) -> None:
    (bundle / MANIFEST_NAME).unlink()
    put(bundle / MANIFEST_NAME)
    with pytest.raises(ManifestError):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[:-1], "bytes, the manifest says"),
        (lambda data: data + b"x", "bytes, the manifest says"),
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "not the file that the manifest names"),
    ],
)
def test_a_changed_file_is_told(bundle: Path, spoil: Callable[[bytes], bytes], words: str) -> None:
    entry = bundle / document(bundle)["entry"]
    entry.write_bytes(spoil(entry.read_bytes()))
    with pytest.raises(IntegrityError, match=words):
        open_bundle(bundle)


def test_a_missing_and_an_added_file_are_told(bundle: Path) -> None:
    (bundle / "config.json").rename(bundle / "confug.json")
    with pytest.raises(IntegrityError, match=r"confug.json is in the bundle"):
        open_bundle(bundle)
    (bundle / "confug.json").unlink()
    with pytest.raises(IntegrityError, match=r"config.json is missing"):
        open_bundle(bundle)


def test_sizes_alone_do_not_read_the_files(bundle: Path) -> None:
    entry = bundle / document(bundle)["entry"]
    data = entry.read_bytes()
    entry.write_bytes(bytes(len(data)))
    assert open_bundle(bundle, check="sizes")
    entry.write_bytes(data[:-1])
    with pytest.raises(IntegrityError):
        open_bundle(bundle, check="sizes")


@pytest.mark.parametrize("version", ["2.0", "0.9", "1", "1.x", 1, None, "999999.0"])
def test_an_unknown_schema_version_is_refused(bundle: Path, version: object) -> None:
    rewrite(bundle, schema_version=version)
    with pytest.raises(ManifestError, match="schema"):
        open_bundle(bundle)


def test_a_newer_minor_version_may_add_fields(bundle: Path) -> None:
    rewrite(bundle, schema_version="1.7", invented={"later": True})
    assert open_bundle(bundle).manifest.schema_version == "1.7"


def test_a_manifest_of_a_gigabyte_is_not_read(bundle: Path) -> None:
    with (bundle / MANIFEST_NAME).open("wb") as file:
        file.truncate(1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ManifestError, match="larger than"):
        open_bundle(bundle)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": NaN}', b'{"a": 1, "a": 1}'),
        *(b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"a": "\\ud800"}', b"[" * 100_000),
    ],
)
def test_what_is_not_json_is_refused(bundle: Path, text: bytes) -> None:
    (bundle / MANIFEST_NAME).write_bytes(text)
    with pytest.raises(ManifestError):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"entry": "onnx/other.onnx"},
        {"files": []},
        {"files": "all"},
        {"name": ""},
        {"source": None},
        {"golden": {"path": "nowhere.json", "cases": 1}},
        {"inputs": [{"name": "x", "dtype": "int64", "shape": [-1]}]},
        {"proof": {"verified": "believe-me", "checks": []}},
        {"performance": {"measured": {"latency": "fast"}}},
    ],
)
def test_a_manifest_that_does_not_follow_its_schema(bundle: Path, changes: Any) -> None:
    rewrite(bundle, **changes)
    with pytest.raises(ManifestError) as caught:
        open_bundle(bundle)
    assert caught.value.why


@pytest.mark.parametrize("place", ["nowhere", "file", "with\x00null", "x" * 5000])
def test_there_is_no_bundle_there(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="No bundle at"):
        open_bundle(tmp_path / place)


def test_an_empty_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest"):
        open_bundle(tmp_path)


@FUZZ
@given(data=st.data())
def test_a_flipped_bit_in_any_file_is_found(bundle: Path, data: st.DataObject) -> None:
    listed = [entry["path"] for entry in document(bundle)["files"] if entry["size"]]
    path = bundle / data.draw(st.sampled_from(listed))
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    path.write_bytes(
        good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))]) + good[at + 1 :]
    )
    try:
        with pytest.raises(IntegrityError):
            open_bundle(bundle)
    finally:
        path.write_bytes(good)


@FUZZ
@given(data=st.data())
def test_any_mutation_of_a_manifest_is_read_or_refused(bundle: Path, data: st.DataObject) -> None:
    good = (bundle / MANIFEST_NAME).read_bytes()
    at = data.draw(st.integers(0, len(good)))
    gone = data.draw(st.integers(0, 40))
    mutated = good[:at] + data.draw(st.binary(max_size=12)) + good[at + gone :]
    try:
        (bundle / MANIFEST_NAME).write_bytes(mutated)
        opened = open_bundle(bundle)
        assert opened.manifest.files
    except EdgewardError as error:
        assert error.what
    finally:
        (bundle / MANIFEST_NAME).write_bytes(good)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)


@FUZZ
@given(data=st.data())
def test_any_value_in_any_field_is_read_or_refused(bundle: Path, data: st.DataObject) -> None:
    good = (bundle / MANIFEST_NAME).read_bytes()
    field = data.draw(st.sampled_from(sorted(json.loads(good))))
    try:
        rewrite(bundle, **{field: data.draw(VALUES)})
        open_bundle(bundle)
    except EdgewardError as error:
        assert error.what
    finally:
        (bundle / MANIFEST_NAME).write_bytes(good)


@given(st.text(max_size=60))
def test_a_path_without_a_problem_stays_inside(path: str) -> None:
    if paths.problem_with(path) is None:
        assert (Path("/bundle") / path).resolve().is_relative_to("/bundle")
        assert os.path.normpath(path) == path
