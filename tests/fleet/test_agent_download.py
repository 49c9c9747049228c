"""Downloads against a real server that misbehaves in every way we know of."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from agent_http import Mischief, say, serving
from agent_sim import FakeClock, Simulator
from hypothesis import given
from hypothesis import strategies as st

from edgeward.errors import TransferError
from edgeward.fleet.agent.answer import Asked, Verdict, judge, retry_after
from edgeward.fleet.agent.download import RANGE_BYTES, BlobDownload
from edgeward.fleet.agent.fetch import HttpFetcher

SIZE = 3 * RANGE_BYTES + 12_345
DATA = random.Random(7).randbytes(SIZE)  # noqa: S311 - test data
SHA = hashlib.sha256(DATA).hexdigest()
ETAG = {"ETag": f'"{SHA}"'}


class Rig:
    """One blob to download, and what the server was asked for."""

    def __init__(self, folder: Path) -> None:
        self.sim = Simulator(blobs={SHA: DATA})
        self.clock = FakeClock()
        self.partial, self.final = folder / "partial", folder / "final"
        self.ranges: list[str] = []
        self.stop_after: int | None = None

    def run(self, mischief: Mischief | None = None) -> None:
        def watched(h: BaseHTTPRequestHandler, path: str, headers: Mapping[str, str]) -> bool:
            self.ranges.append(headers.get("range", ""))
            return mischief(h, path, headers) if mischief else False

        with serving(self.sim, watched) as url:
            BlobDownload(
                HttpFetcher(url), self.clock, SHA, SIZE, self.partial, self.final, self.between
            ).run()

    def between(self) -> None:
        if self.stop_after is not None and len(self.ranges) >= self.stop_after:
            raise KeyboardInterrupt

    @property
    def is_whole(self) -> bool:
        return self.final.read_bytes() == DATA and not self.partial.exists()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def start_of(headers: Mapping[str, str]) -> int:
    return int(headers["range"].removeprefix("bytes=").partition("-")[0])


def times(count: int, do: Mischief) -> Mischief:
    """Misbehave so many times, then behave."""
    left = [count]

    def mischief(h: BaseHTTPRequestHandler, path: str, headers: Mapping[str, str]) -> bool:
        if left[0] <= 0 or start_of(headers) == 0:
            return False
        left[0] -= 1
        return do(h, path, headers)

    return mischief


def test_it_comes_in_ranges_of_a_megabyte(rig: Rig) -> None:
    rig.run()
    assert rig.is_whole
    assert rig.ranges[0] == f"bytes=0-{RANGE_BYTES - 1}"
    assert len(rig.ranges) == 4


def test_it_goes_on_where_it_was_broken_off(rig: Rig) -> None:
    rig.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        rig.run()
    assert rig.partial.stat().st_size == 2 * RANGE_BYTES
    rig.stop_after, rig.ranges = None, []
    rig.run()
    assert rig.is_whole
    assert start_of({"range": rig.ranges[0]}) == 2 * RANGE_BYTES


def truncated(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    start = start_of(headers)
    stop = min(start + RANGE_BYTES, SIZE)
    span = {"Content-Range": f"bytes {start}-{stop - 1}/{SIZE}", **ETAG}
    return say(h, 206, {**span, "Content-Length": str(stop - start)}, DATA[start : start + 100_000])


def wrong_length(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    start = start_of(headers)
    span = {"Content-Range": f"bytes {start}-{start + 999}/{SIZE}", **ETAG}
    return say(h, 206, {**span, "Content-Length": "500"}, DATA[start : start + 500])


def too_long(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    start = start_of(headers)
    span = {"Content-Range": f"bytes {start}-{start + 999}/{SIZE}", "Connection": "close", **ETAG}
    return say(h, 206, span, DATA[start : start + 5000])


def another_range(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    span = {"Content-Range": f"bytes 0-999/{SIZE}", **ETAG}
    return say(h, 206, {**span, "Content-Length": "1000"}, DATA[:1000])


def another_etag(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    start = start_of(headers)
    span = {"Content-Range": f"bytes {start}-{start + 999}/{SIZE}", "ETag": '"another"'}
    return say(h, 206, {**span, "Content-Length": "1000"}, b"y" * 1000)


def whole_for_a_range(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    return say(h, 200, {"Content-Length": str(SIZE)}, DATA)


def portal(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    page = b"<html>Welcome to the hotel's network</html>"
    kind = {"Content-Type": "text/html", "Content-Length": str(len(page))}
    return say(h, 200, kind, page)


def redirect(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    return say(h, 302, {"Location": "http://hotel.test/", "Content-Length": "0"}, b"")


def unsatisfiable(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    return say(h, 416, {"Content-Range": "bytes */5", "Content-Length": "0"}, b"")


def hang_up(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    h.close_connection = True
    return True


def broken(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
    return say(h, 500, {"Content-Length": "0"}, b"")


@pytest.mark.parametrize(
    "fault",
    [
        *(truncated, wrong_length, too_long, another_range, another_etag, whole_for_a_range),
        *(portal, redirect, unsatisfiable, hang_up, broken),
    ],
)
def test_a_fault_that_passes_is_survived(rig: Rig, fault: Mischief) -> None:
    rig.run(times(2, fault))
    assert rig.is_whole


@pytest.mark.parametrize(
    "fault", [wrong_length, another_etag, portal, redirect, unsatisfiable, hang_up, broken]
)
def test_a_fault_that_stays_ends_in_words_and_keeps_what_is_good(rig: Rig, fault: Mischief) -> None:
    with pytest.raises(TransferError, match="did not come through") as caught:
        rig.run(times(10**6, fault))
    assert "tries" in caught.value.why
    assert not rig.final.exists()
    assert rig.partial.stat().st_size in (0, RANGE_BYTES)


def test_a_portal_costs_nothing_of_what_was_downloaded(rig: Rig) -> None:
    rig.run(times(3, portal))
    assert len([r for r in rig.ranges if start_of({"range": r}) == 0]) == 1


def test_flipped_bits_start_the_blob_again_and_end_after_a_few_times(rig: Rig) -> None:
    flipped = bytearray(DATA)
    flipped[RANGE_BYTES + 5] ^= 4
    rig.sim.blobs[SHA] = bytes(flipped)
    with pytest.raises(TransferError, match="did not come through") as caught:
        rig.run()
    assert "another sha256" in caught.value.why
    assert not rig.final.exists()
    rig.sim.blobs[SHA] = DATA
    rig.run()
    assert rig.is_whole


def test_a_damaged_partial_is_noticed(rig: Rig) -> None:
    rig.partial.write_bytes(b"\0" * RANGE_BYTES)
    rig.run()
    assert rig.is_whole


def test_a_partial_that_is_too_long_is_dropped(rig: Rig) -> None:
    rig.partial.write_bytes(b"\0" * (SIZE + 1))
    rig.run()
    assert rig.is_whole


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_storm_is_waited_out_as_asked(rig: Rig, status: int, form: str) -> None:
    wall = rig.clock.wall

    def busy(h: BaseHTTPRequestHandler, _: str, headers: Mapping[str, str]) -> bool:
        value = "120" if form == "seconds" else formatdate(rig.clock.wall + 120, usegmt=True)
        return say(h, status, {"Retry-After": value, "Content-Length": "0"}, b"")

    rig.run(times(2, busy))
    assert rig.is_whole
    assert rig.clock.wall - wall >= 238


def test_the_disk_that_fills_up_raises_and_keeps_the_part(rig: Rig) -> None:
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * RANGE_BYTES + 1000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            rig.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    rig.run()
    assert rig.is_whole


HEADERS = st.dictionaries(
    st.sampled_from(["content-range", "content-length", "etag", "retry-after", "content-type"]),
    st.text(max_size=40)
    | st.from_regex(r"bytes [0-9]{1,4}-[0-9]{1,4}/[0-9]{1,4}", fullmatch=True)
    | st.integers(0, 10**6).map(str),
)


@given(st.integers(100, 599), HEADERS)
def test_no_answer_is_taken_for_another_range(status: int, headers: dict[str, str]) -> None:
    answer = judge(Asked(100, 200, 1000, '"e"'), status, headers, 0.0)
    if answer.verdict is Verdict.APPEND:
        assert headers["content-range"].strip().startswith("bytes 100-")
        assert 1 <= answer.length <= 100
    if answer.retry_after is not None:
        assert 0 <= answer.retry_after <= 300


@given(st.text(max_size=60))
def test_retry_after_takes_any_text(text: str) -> None:
    found = retry_after(text, 0.0)
    assert found is None or 0 <= found <= 300
