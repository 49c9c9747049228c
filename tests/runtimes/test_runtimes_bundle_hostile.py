"""The finer lies of a bundle: links, odd names, odd JSON, and fields of the wrong kind by name."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle_damage import copy_of, edit_manifest, read_manifest
from documents import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from json_schema import faults

from edgeward.errors import EdgewardError, IntegrityError, ManifestError, UnsafePathError
from edgeward.runtimes.bundle.canonical import MAX_DEPTH, canonical_bytes, parse
from edgeward.runtimes.bundle.manifest import MANIFEST_NAME, SIGNATURE_NAME, validate
from edgeward.runtimes.bundle.paths import collisions, problem_with
from edgeward.runtimes.bundle.read import Bundle, open_bundle

MODEL = "onnx/model.onnx"
FUZZ = settings(deadline=None, max_examples=200)


@pytest.fixture
def folder(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy to damage."""
    return copy_of(tiny_bundle, tmp_path / "bundle")


def refusal(folder: Path, kind: type[EdgewardError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        open_bundle(folder)
    assert type(caught.value) is kind
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    "name",
    [
        *("//etc/passwd", "..\\outside", "C:model.onnx", "model.onnx:stream", "\\\\host\\share"),
        *("a\x1b[2Jb", "a\u200bb", "a\u2028b", "a\u2066b", "a\ufeffb", "a\x85b", "a\ud800b"),
        *("a/./b", "a/../a", "..", ".", "a/", "/", "nul.txt", "a/COM1.bin", "what?", "ö" * 101),
    ],
)
def test_a_name_has_a_problem(name: str) -> None:
    assert problem_with(name)


@pytest.mark.parametrize("name", ["config.json", "a/b/c", ".hidden", "ä/東京", "a b", "a..b"])
def test_an_ordinary_name_has_none(name: str) -> None:
    assert problem_with(name) is None


@pytest.mark.parametrize(
    ("listed", "clashing"),
    [
        (["a", "b", "a.b", "ab/c"], []),
        (["a", "a"], ["a"]),
        (["Config.json", "config.json"], ["config.json"]),
        (["straße", "STRASSE"], ["STRASSE"]),
        (["a", "a/b/c"], ["a"]),
        (["A", "a/b"], ["A"]),
    ],
)
def test_names_that_meet_somewhere_clash(listed: list[str], clashing: list[str]) -> None:
    assert collisions(listed) == clashing


@pytest.mark.parametrize("name", [SIGNATURE_NAME, "../out", "a\ud800b"])
def test_a_manifest_cannot_list_such_a_name(folder: Path, name: str) -> None:
    edit_manifest(folder, lambda document: document["files"][0].update(path=name))
    refusal(folder, ManifestError, "schema|UTF-8")


@pytest.mark.parametrize("field", ["entry", "golden"])
def test_a_file_that_is_named_must_be_listed(folder: Path, field: str) -> None:
    def edit(document: dict[str, Any]) -> None:
        if field == "entry":
            document["entry"] = "../../etc/passwd"
        else:
            document["golden"]["path"] = "/etc/passwd"

    edit_manifest(folder, edit)
    refusal(folder, ManifestError, "a file that it does not list")


def link_inside(folder: Path) -> None:
    shutil.copy(folder / "config.json", folder.parent / "moved")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("../moved")


def dangling_link(folder: Path) -> None:
    (folder / "extra").symlink_to("/nowhere")


def loop(folder: Path) -> None:
    (folder / "onnx" / "again").symlink_to("..")


def linked_signature(folder: Path) -> None:
    (folder / SIGNATURE_NAME).symlink_to("/etc/passwd")


@pytest.mark.parametrize("damage", [link_inside, dangling_link, loop, linked_signature])
def test_no_link_is_followed_listed_or_not(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    refusal(folder, UnsafePathError, "symbolic link")


def test_a_link_in_the_manifests_place_is_not_followed(folder: Path) -> None:
    (folder / MANIFEST_NAME).rename(folder.parent / "moved")
    (folder / MANIFEST_NAME).symlink_to("../moved")
    refusal(folder, ManifestError, "cannot be read")


def test_a_hard_link_is_judged_by_its_content(folder: Path) -> None:
    outside = folder.parent / "outside"
    os.link(folder / MODEL, outside)
    open_bundle(folder)
    outside.write_bytes(bytes(outside.stat().st_size))
    refusal(folder, IntegrityError, "sha256 differs")


def test_a_socket_is_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "onnx")
    Path("model.onnx").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("model.onnx")
        refusal(folder, UnsafePathError, "not a regular file")


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / MODEL).unlink()
    (folder / MODEL).mkdir()
    refusal(folder, IntegrityError, "not a regular file")


@pytest.mark.parametrize("name", ["onnx/.hidden", "deep/er/file", "Config.json", "manifest.sig/x"])
def test_a_file_that_nobody_listed_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
    refusal(folder, IntegrityError, f"{name} is in the bundle but not in its manifest")


@pytest.fixture
def deep_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bundle with a file deeper than Python's stack; removed by what can remove it."""
    monkeypatch.chdir(folder)
    for _ in range(1200):
        Path("d").mkdir()
        os.chdir("d")
    Path("extra").write_bytes(b"")
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_folders_nested_deeper_than_the_stack_hide_nothing(deep_folder: Path) -> None:
    refusal(deep_folder, IntegrityError, "not in its manifest")


def test_a_newer_minor_versions_fields_change_nothing_but_the_digest(
    folder: Path, tiny_bundle: Bundle
) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["invented"] = {"later": [1]}
        document["source"]["mirror"] = "elsewhere"

    edit_manifest(folder, edit)
    opened = open_bundle(folder)
    assert opened.manifest == tiny_bundle.manifest
    assert opened.digest != tiny_bundle.digest


def test_an_unknown_major_version_says_what_to_do(folder: Path) -> None:
    edit_manifest(folder, lambda document: document.update(schema_version="2.0", files="changed"))
    with pytest.raises(ManifestError, match=r"reads 1\.x") as caught:
        open_bundle(folder)
    assert caught.value.next == "pip install --upgrade edgeward"


@pytest.mark.parametrize("version", ["1.0\n", "\u0661.\u0660", "1" * 9000, 1.0, "v1.0", "-1.0"])
def test_what_only_looks_like_a_version_is_none(folder: Path, version: object) -> None:
    edit_manifest(folder, lambda document: document.update(schema_version=version))
    refusal(folder, ManifestError, "has no schema version")


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": -Infinity}', "Infinity is not a JSON number"),
        (b'{"a": 1e999}', "not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b'{"x": {"a": 1, "b": 2, "a": 1}}', "twice"),
        (b'{"\\udfff": 1}', "not UTF-8"),
        (nested(MAX_DEPTH), f"nested deeper than {MAX_DEPTH}"),
        (nested(100_000), "nested too deeply"),
    ],
)
def test_json_that_two_parsers_would_read_differently(text: bytes, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(text)
    assert words in str(caught.value)


def test_json_at_the_limit_is_read() -> None:
    assert parse(nested(MAX_DEPTH - 1))


WRONG: list[tuple[str, object]] = [
    ("files.0.size", "12"),
    ("files.0.size", 12.0),
    ("files.0.size", -1),
    ("files.0.size", True),
    ("files.0.size", 2**53 + 1),
    ("files.0.sha256", "ab"),
    ("files.0.sha256", "A" * 64),
    ("files.0.sha256", "a" * 64 + "\n"),
    ("files.0", []),
    ("files", {}),
    ("name", 5),
    ("name", None),
    ("name", "n" * 201),
    ("inputs.0.shape", [True]),
    ("inputs.0.shape", [2**31 + 1]),
    ("inputs.0.shape", [1] * 17),
    ("proof.checks.0.bound", 10**400),
    ("proof.checks.0.bound", "0.9"),
    ("proof.checks.0.direction", "sideways"),
    ("proof.verified", "trust me"),
    ("golden.cases", 0),
    ("recipe.options", {"a": {}}),
    ("recipe.options", {"": 1}),
    ("tools", {str(number): "1" for number in range(257)}),
]


def change(document: dict[str, Any], field: str, value: object) -> None:
    *way, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    at: Any = document
    for part in way:
        at = at[part]
    at[last] = value


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda value: str(value)[:20])
def test_a_field_of_the_wrong_kind_is_named(folder: Path, field: str, value: object) -> None:
    edit_manifest(folder, lambda document: change(document, field, value))
    refusal(folder, ManifestError, f"does not follow its schema\n +{field}")


REQUIRED = sorted(set(json.loads((ROOT / "docs" / "manifest.schema.json").read_text())["required"]))


@pytest.mark.parametrize("name", [name for name in REQUIRED if name != "schema_version"])
def test_a_missing_field_is_named(folder: Path, name: str) -> None:
    edit_manifest(folder, lambda document: document.pop(name))
    refusal(folder, ManifestError, f"{name}: Field required")


def published() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "docs" / "manifest.schema.json").read_text())
    return document


def test_the_published_schema_accepts_what_the_reader_accepts(
    tiny_bundle: Bundle, make_bundle: Callable[..., Bundle]
) -> None:
    other = make_bundle("other", changes={"invented": 1, "golden": None, "stages": []})
    for bundle in (tiny_bundle, other):
        assert list(faults(read_manifest(bundle.path), published())) == []
        assert list(faults(bundle.manifest.model_dump(mode="json"), published())) == []


ONE_NUMBER_TO_JSON_SCHEMA = (12.0, 10**400)
WRONG_TO_BOTH = [case for case in WRONG if case[1] not in ONE_NUMBER_TO_JSON_SCHEMA]


@pytest.mark.parametrize(("field", "value"), WRONG_TO_BOTH, ids=lambda value: str(value)[:20])
def test_the_published_schema_refuses_what_the_reader_refuses(
    tiny_bundle: Bundle, field: str, value: object
) -> None:
    document = read_manifest(tiny_bundle.path)
    change(document, field, value)
    found = [fault.partition(":")[0] for fault in faults(document, published())]
    there = "/" + field.replace(".", "/")
    assert found
    assert all(there.startswith(place) or place.startswith(there) for place in found)


@FUZZ
@given(data=st.data())
def test_a_mutated_manifest_is_refused_or_named_by_what_it_says(
    tiny_bundle: Bundle, data: st.DataObject
) -> None:
    good = (tiny_bundle.path / MANIFEST_NAME).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    patch = data.draw(st.sampled_from([b"", b" ", b"\n", b"0", b'"', b"}", b"\\", b"\xff"]))
    mutated = good[:at] + patch + good[at + data.draw(st.integers(0, 2)) :]
    try:
        document = parse(mutated, "manifest")
        manifest = validate(document)
    except EdgewardError as error:
        assert isinstance(error, ManifestError)
        return
    unchanged = canonical_bytes(document) == canonical_bytes(parse(good))
    assert unchanged <= (manifest == tiny_bundle.manifest)
    assert canonical_bytes(parse(canonical_bytes(document))) == canonical_bytes(document)
