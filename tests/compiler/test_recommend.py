"""`edgeward recommend`: what is tried, what wins, and what is said of the others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from model_folder import write_model
from real_model import minilm

from edgeward.compiler.budget import parse_budget
from edgeward.compiler.cli.recommend import OBJECTIVES as OFFERED
from edgeward.compiler.cli.recommend import recommend_command
from edgeward.compiler.compile import CompileRequest
from edgeward.compiler.pareto import Point, front, pareto_picture
from edgeward.compiler.recommend import OBJECTIVES, open_wanted, shortlist
from edgeward.errors import DoesNotFitError, UsageError
from edgeward.runtimes.bundle.read import open_bundle

points = st.lists(
    st.builds(
        Point,
        st.text(min_size=1, max_size=5),
        st.floats(0, 1e6, allow_nan=False),
        st.floats(0, 10, allow_nan=False),
    ),
    max_size=12,
)


@given(points)
def test_nothing_beats_what_is_on_the_front_and_all_else_is_beaten(listed: list[Point]) -> None:
    best = front(listed)
    for point in listed:
        beaten = any(
            other.cost <= point.cost
            and other.loss <= point.loss
            and (other.cost, other.loss) != (point.cost, point.loss)
            for other in listed
        )
        assert beaten or any((b.cost, b.loss) == (point.cost, point.loss) for b in best)
        assert not (beaten and point in best)


@given(points)
def test_the_picture_is_a_document_with_every_point(listed: list[Point]) -> None:
    drawn = pareto_picture("a < b", listed, "ms", "nats")
    places = re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', drawn)
    assert len(places) == len(listed)
    assert all(0 <= float(x) <= 720 and 0 <= float(y) <= 440 for x, y in places)
    assert "a &lt; b" in drawn


def request_for(model: Path, *within: str, target: str = "x86-64-cpu") -> CompileRequest:
    return CompileRequest(str(model), (target,), model.parent, budget=parse_budget(within))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def test_the_command_offers_the_objectives_that_there_are() -> None:
    assert OFFERED == OBJECTIVES


class TestShortlist:
    """What a plan alone decides."""

    def test_the_most_promising_comes_first(self, model: Path) -> None:
        request = request_for(model)
        source = open_wanted(request)
        smallest, _ = shortlist(request, source, "memory")
        exact, _ = shortlist(request, source, "accuracy")
        assert smallest[0].predicted.memory.total <= exact[0].predicted.memory.total
        formats = {one.job.recipe.format for one in smallest}
        assert {one.job.recipe.format for one in smallest[: len(formats)]} == formats
        assert exact[0].job.recipe.precision == "fp32"

    def test_a_model_that_one_format_alone_takes_is_tried_in_that(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "seen", architectures=["ViTModel"], model_type="vit")
        request = request_for(model)
        kept, left_out = shortlist(request, open_wanted(request), "memory")
        assert {name.split()[0] for name in [*(one.name for one in kept), *left_out]} == {"onnx"}

    def test_what_promises_the_same_is_tried_once(self, model: Path) -> None:
        request = request_for(model)
        kept, left_out = shortlist(request, open_wanted(request), "memory")
        names = [one.name for one in kept]
        assert len(set(names)) == len(names)
        assert not set(names) & set(left_out)
        assert any("promises as much" in reason for reason in left_out.values())

    def test_what_goes_over_the_budget_is_told(self, model: Path) -> None:
        request = request_for(model, "memory=1kB")
        kept, left_out = shortlist(request, open_wanted(request), "latency")
        assert not kept
        assert all("the budget is" in reason for reason in left_out.values())

    def test_energy_needs_a_device_that_names_its_power(self, model: Path) -> None:
        request = request_for(model)
        with pytest.raises(UsageError, match="names no power"):
            shortlist(request, open_wanted(request), "energy")


def test_a_dry_run_lists_what_would_be_tried(model: Path) -> None:
    call = [str(model), "-t", "x86-64-cpu", "--dry-run", "--report", "csv"]
    done = CliRunner().invoke(recommend_command, call)
    assert done.exit_code == 0, done.output
    assert "onnx fp32" in done.output
    assert done.output.splitlines()[0].startswith("recipe,engine,memory_mb")


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestReal:
    """On all-MiniLM-L6-v2, compiled and measured."""

    call = ("-t", "x86-64-cpu", "--objective", "memory", "--format", "onnx", "--most", "2", "-q")

    def test_the_winner_is_packaged_with_the_trail(self, tmp_path: Path) -> None:
        picture = tmp_path / "front.svg"
        call = [str(minilm()), *self.call, "-o", str(tmp_path), "--picture", str(picture)]
        done = CliRunner().invoke(recommend_command, [*call, "--report", "json"])
        assert done.exit_code == 0, done.output
        rows = json.loads(done.stdout)
        tried = [row for row in rows if row["cost"] is not None]
        (winner,) = [row for row in rows if row["verdict"] == "recommended"]
        kept = [row for row in tried if row["verdict"] in ("recommended", "keeps the budget")]
        assert len(tried) >= 2
        assert winner["cost"] == min(row["cost"] for row in kept)
        assert winner["best"]
        manifest = open_bundle(Path(winner["path"])).manifest
        assert f"onnx {manifest.recipe.precision}" == winner["recipe"]
        assert [one.precision for one in manifest.search] == [row["recipe"] for row in tried]
        assert len(picture.read_text().split("<circle")) == len(tried) + 1

    def test_a_bound_that_nothing_keeps_is_told_with_what_was_tried(self, tmp_path: Path) -> None:
        call = [str(minilm()), *self.call, "-o", str(tmp_path), "--within", "tpot=0.0001ms"]
        done = CliRunner().invoke(recommend_command, call)
        assert isinstance(done.exception, DoesNotFitError)
        assert "tpot_ms" in (done.exception.why or "")
