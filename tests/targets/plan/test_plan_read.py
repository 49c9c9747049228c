"""Facts are read from headers: folders, GGUF files, a server with ranges, hostile files."""

from __future__ import annotations

import json
import re
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgeward.errors import EdgewardError, SourceError, UsageError
from edgeward.targets.plan.read import read_facts
from edgeward.targets.plan.show import headline

CONFIG = json.loads((Path(__file__).parent / "configs" / "smollm2-135m.json").read_text())["config"]


def header(tensors: dict[str, tuple[str, list[int]]]) -> bytes:
    rows = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}
        for name, (dtype, shape) in tensors.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **rows}).encode()
    return len(text).to_bytes(8, "little") + text


def model(folder: Path, tensors: dict[str, tuple[str, list[int]]], **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "model.safetensors").write_bytes(header(tensors) + b"\0" * 64)
    return folder


EMBEDDING = {"model.embed_tokens.weight": ("BF16", [49152, 576])}


class Hub:
    """A server that answers ranges, and counts what it sent."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sent, self.ranges, self.url = folder, 0, True, ""
        self.refuses = False


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    state = Hub(tmp_path / "hub")
    state.folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if state.refuses:
                self.send_error(401)
                return
            path = state.folder / self.path.rpartition("/")[2]
            if "/org/tiny/resolve/main/" not in self.path or not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if found and state.ranges:
                data = data[int(found[1]) : int(found[2]) + 1]
            self.send_response(206 if found and state.ranges else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            state.sent += len(data)
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


def test_a_folder_tells_its_parameters_from_headers(tmp_path: Path) -> None:
    tensors = {**EMBEDDING, "model.layers.0.self_attn.q_proj.weight": ("BF16", [576, 576])}
    found = read_facts(str(model(tmp_path / "tiny", tensors)))
    assert (found.counted, found.name) == ("headers", "tiny")
    assert found.parts == {"embedding": 49152 * 576, "attention": 576 * 576}


def test_what_is_no_parameter_is_not_counted(tmp_path: Path) -> None:
    extra = {
        "lm_head.weight": ("BF16", [49152, 576]),
        "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", [32]),
        "embeddings.position_ids": ("I64", [1, 512]),
    }
    tied = read_facts(str(model(tmp_path / "tied", {**EMBEDDING, **extra})))
    assert tied.parameters == 49152 * 576
    loose = model(tmp_path / "loose", {**EMBEDDING, **extra}, tie_word_embeddings=False)
    assert read_facts(str(loose)).parameters == 2 * 49152 * 576


def test_packed_weights_count_as_what_they_hold(tmp_path: Path) -> None:
    packed = {
        "model.layers.0.mlp.up_proj.weight_packed": ("I32", [1536, 72]),
        "model.layers.0.mlp.up_proj.weight_scale": ("BF16", [1536, 18]),
    }
    folder = model(tmp_path / "packed", packed, quantization_config={"bits": 4})
    assert read_facts(str(folder)).parameters == 1536 * 576


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        ({"do_center_crop": True, "crop_size": {"height": 112, "width": 112}}, 65),
        ({"do_resize": True, "size": {"height": 28, "width": 56}}, 5),
        ({"size": {"shortest_edge": 56}, "crop_pct": 0.875}, 17),
        ({"size": {"shortest_edge": 56}}, 257),
        ({"size": 56}, 17),
        ({"size": [28, 56]}, 5),
        ({"do_center_crop": True, "crop_size": "56", "size": [1, 2, 3]}, 257),
        ({"do_center_crop": False, "crop_size": 56, "do_resize": False, "size": 56}, 257),
        ({"do_resize": True, "size": {"height": "56", "width": -1}}, 257),
        ({"do_resize": True, "size": {"shortest_edge": True}}, 257),
        ({"do_resize": True, "size": 10**9}, 257),
        (None, 257),
    ],
)
def test_pictures_are_as_large_as_the_preprocessor_cuts_them(
    tmp_path: Path, settings: dict[str, object] | None, tokens: int
) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 4}
    config = {"model_type": "dinov2", "image_size": 224, "patch_size": 14, **sizes}
    (tmp_path / "config.json").write_text(json.dumps(config))
    bare = read_facts(str(tmp_path))
    if settings is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    found = read_facts(str(tmp_path))
    assert (bare.encoder_tokens, found.encoder_tokens) == (257, tokens)
    assert found.parameters == bare.parameters
    assert read_facts(str(tmp_path / "config.json")).encoder_tokens == tokens


def test_shards_and_experts_are_gathered(tmp_path: Path) -> None:
    folder = model(tmp_path / "sharded", {})
    (folder / "model.safetensors").unlink()
    places = {}
    for number in range(4):
        name = f"model.layers.0.mlp.experts.{number}.up_proj.weight"
        places[name] = f"model-{number}.safetensors"
        (folder / places[name]).write_bytes(header({name: ("BF16", [8, 4])}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = read_facts(str(folder))
    assert found.parameters == 4 * 32
    assert [tensor.copies for tensor in found.tensors] == [4]


def test_a_remote_repository_costs_its_headers(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    model(hub.folder, EMBEDDING)
    with (hub.folder / "model.safetensors").open("ab") as file:
        file.truncate(64 * 2**20)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    found = read_facts("org/tiny")
    assert found.parameters == 49152 * 576
    assert hub.sent == found.bytes_read < 2**20
    assert read_facts(f"{hub.url}/org/tiny/resolve/main").parameters == found.parameters


def test_a_server_that_is_not_there_or_says_no_is_told(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(SourceError, match="404"):
        read_facts("org/other")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match="cannot be reached"):
        read_facts("org/tiny")


COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository as the hub's client caches it: files are links to blobs; no hub is there."""
    repository = tmp_path / "home" / "hub" / "models--org--tiny"
    for folder in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    made = model(tmp_path / "made", EMBEDDING)
    for number, name in enumerate(("config.json", "model.safetensors")):
        (made / name).rename(repository / "blobs" / str(number))
        (repository / "snapshots" / COMMIT / name).symlink_to(f"../../blobs/{number}")
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    return repository


@pytest.mark.parametrize("asked", ["org/tiny", f"org/tiny@{COMMIT}"])
def test_where_the_hub_is_out_of_reach_its_cache_is_read(cache: Path, asked: str) -> None:
    found = read_facts(asked)
    assert (found.name, found.cached, found.counted) == ("tiny", COMMIT, "headers")
    assert found.parameters == 49152 * 576
    assert f"in the hub's cache ({COMMIT[:7]})" in headline(found, 512, 1)


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("HF_HUB_CACHE", "home/hub"),
        ("HUGGINGFACE_HUB_CACHE", "home/hub"),
        ("HF_HUB_CACHE", "$WHERE/hub"),
        ("XDG_CACHE_HOME", "xdg"),
    ],
)
def test_the_cache_is_where_its_client_has_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, place: str
) -> None:
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("WHERE", str(tmp_path / "home"))
    (tmp_path / "xdg").mkdir()
    (tmp_path / "xdg" / "huggingface").symlink_to(cache.parent.parent)
    monkeypatch.setenv(variable, place if place.startswith("$") else str(tmp_path / place))
    assert read_facts("org/tiny").cached == COMMIT


def test_the_hub_comes_before_a_branch_that_is_cached(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model(hub.folder, EMBEDDING, hidden_size=288)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert (read_facts("org/tiny").hidden, read_facts("org/tiny").cached) == (288, "")
    sent = hub.sent
    assert read_facts(f"org/tiny@{COMMIT}").cached == COMMIT
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert read_facts("org/tiny").cached == COMMIT
    assert hub.sent == sent
    (cache / "refs" / "main").unlink()
    with pytest.raises(SourceError, match="is not in the hub's cache"):
        read_facts("org/tiny")


@pytest.mark.parametrize(
    "asked",
    [
        *("org/other", "org/tiny@gone", "org/tiny@x/../main", f"org/tiny@{COMMIT[::-1]}"),
        *("org/tiny@damaged", "org/tiny@empty", "org/tiny@binary"),
    ],
)
def test_what_is_not_cached_is_told_with_what_could_not_be_reached(cache: Path, asked: str) -> None:
    (cache / "refs" / "x").mkdir()
    (cache / "blobs" / "config.json").symlink_to("0")
    (cache / "refs" / "damaged").write_text("../blobs")
    (cache / "refs" / "empty").write_text("")
    (cache / "refs" / "binary").write_bytes(b"\xff" * 400)
    with pytest.raises(SourceError, match="cannot be reached") as told:
        read_facts(asked)
    assert "not in the hub's cache either" in told.value.why


def test_a_hub_that_lets_nobody_in_leaves_what_was_downloaded(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.refuses = True
    assert read_facts("org/tiny").cached == COMMIT
    with pytest.raises(SourceError, match="401") as told:
        read_facts("org/other")
    assert "hf download" in told.value.next


def test_a_cached_configuration_without_weights_is_enough(cache: Path) -> None:
    (cache / "snapshots" / COMMIT / "model.safetensors").unlink()
    assert read_facts("org/tiny").counted == "config"
    (cache / "snapshots" / COMMIT / "config.json").unlink()
    with pytest.raises(SourceError, match="cannot be reached"):
        read_facts("org/tiny")


def test_a_configuration_without_weights_is_enough(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert read_facts(str(tmp_path)).parameters == 134_515_008
    assert read_facts(str(tmp_path / "config.json")).counted == "config"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (10).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a": {}}',
        header({"a": ("F99", [1])}),
        header({"a": ("F32", [-1])}),
        (4).to_bytes(8, "little") + b"nope",
    ],
)
def test_a_damaged_header_is_refused_in_words(tmp_path: Path, data: bytes) -> None:
    folder = model(tmp_path / "bad", {})
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(SourceError, match=r"model\.safetensors"):
        read_facts(str(folder))


@pytest.mark.parametrize("name", ["../secret.safetensors", "a/b.safetensors", "weights.bin", 7])
def test_an_index_names_files_beside_it_only(tmp_path: Path, name: object) -> None:
    folder = model(tmp_path / "bad", {})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(SourceError, match="names a file that is none"):
        read_facts(str(folder))


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(words: int = 100) -> bytes:
    keys = {"embedding_length": 64, "block_count": 2, "context_length": 256}
    keys |= {"attention.head_count": 4, "attention.head_count_kv": 2, "feed_forward_length": 128}
    parts = [b"GGUF", struct.pack("<IQQ", 3, 2, len(keys) + 2)]
    parts += [text("general.architecture"), struct.pack("<I", 8), text("llama")]
    parts += [text(f"llama.{key}") + struct.pack("<II", 4, value) for key, value in keys.items()]
    parts += [text("tokenizer.ggml.tokens"), struct.pack("<IIQ", 9, 8, words)]
    parts += [text(f"word{number}") for number in range(words)]
    parts += [text("token_embd.weight"), struct.pack("<IQQIQ", 2, 64, words, 2, 0)]
    parts += [text("blk.0.attn_q.weight"), struct.pack("<IQQIQ", 2, 64, 64, 8, 4096)]
    return b"".join(parts)


def test_a_gguf_file_tells_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf())
    found = read_facts(str(path))
    assert (found.name, found.counted, found.tied) == ("tiny", "gguf", True)
    assert found.parts == {"embedding": 6400, "attention": 4096}
    assert (found.heads, found.kv_heads, found.max_context) == (4, 2, 256)
    assert [tensor.bits for tensor in found.tensors] == [4.5, 8.5]


@pytest.mark.parametrize("length", [0, 3, 10, 100, 400])
def test_a_gguf_file_that_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf()[:length])
    with pytest.raises(SourceError, match="GGUF"):
        read_facts(str(path))


def test_a_remote_gguf_file_is_read_by_ranges(hub: Hub) -> None:
    (hub.folder / "tiny.gguf").write_bytes(gguf(50_000) + b"\0" * 8 * 2**20)
    found = read_facts(f"{hub.url}/org/tiny/resolve/main/tiny.gguf")
    assert found.vocabulary == 50_000
    assert hub.sent < 3 * 2**20


def test_a_server_without_ranges_is_told(hub: Hub) -> None:
    hub.ranges = False
    (hub.folder / "tiny.gguf").write_bytes(gguf(100_000))
    with pytest.raises(SourceError, match="does not answer with ranges"):
        read_facts(f"{hub.url}/org/tiny/resolve/main/tiny.gguf")


@pytest.mark.parametrize("name", ["no such thing", "a/b/c/d", "", "file:///etc/passwd"])
def test_what_is_no_model_is_refused(name: str) -> None:
    with pytest.raises((UsageError, EdgewardError)):
        read_facts(name)
