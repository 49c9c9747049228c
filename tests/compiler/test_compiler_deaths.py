import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.compiler.deaths import Setting, died, out_of_memory, raised
from edgeward.compiler.wire import Failure
from edgeward.errors import EdgewardError, IntegrityError, StageError, StageLimitError


def setting(peak=0, limit=None, estimate=None, lines=()):
    return Setting("quantise", Path("/log"), tuple(lines), peak, limit, estimate)


def test_being_killed_with_memory_nearly_full_is_told_as_memory():
    full = died(setting(peak=95 << 20, limit=100 << 20), -signal.SIGKILL)
    assert isinstance(full, StageLimitError)
    assert full.what == "quantise ran out of memory: used 95.0 MiB of 100.0 MiB"
    half = died(setting(peak=50 << 20, limit=100 << 20), -signal.SIGKILL)
    assert "SIGKILL" in half.what
    assert "memory" not in half.what


def test_the_estimate_is_named_where_it_says_more():
    assert "about 3.0 GiB" in out_of_memory(setting(peak=1 << 30, estimate=3 << 30)).why
    assert "at least 1.2 GiB" in out_of_memory(setting(peak=1 << 30, estimate=1 << 20)).why


@given(st.integers(-70, 260))
def test_every_end_has_words_and_names_the_log(code):
    error = died(setting(lines=["last"]), code)
    assert error.what.startswith("quantise")
    assert "/log" in error.why
    assert "last" in error.why


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=40))
def test_whatever_class_a_stage_names_an_edgeward_error_comes_out(classes, text):
    failure = Failure(tuple(classes), "", "", "", text, disk_full=False, out_of_memory=False)
    assert isinstance(raised(setting(), failure), EdgewardError)


@pytest.mark.parametrize(
    ("classes", "kind"),
    [
        (("Finer", "IntegrityError", "BundleError", "EdgewardError"), IntegrityError),
        (("KeyError", "LookupError"), StageError),
        (("annotations", "Exception"), StageError),
    ],
)
def test_the_nearest_known_class_is_raised(classes, kind):
    failure = Failure(classes, "what", "", "", "text", disk_full=False, out_of_memory=False)
    assert type(raised(setting(), failure)) is kind
