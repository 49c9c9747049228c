import io

from rich.console import Console

from edgeward.compiler.progress import (
    NullReporter,
    PlainReporter,
    finished_line,
    one_line,
    reporter_for,
)
from edgeward.compiler.progress_live import RichReporter
from edgeward.compiler.words import size_words, time_words


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_reporter_fits_the_stream():
    assert type(reporter_for(io.StringIO())) is PlainReporter
    assert type(reporter_for(Terminal())) is RichReporter
    assert type(reporter_for(Terminal(), quiet=True)) is NullReporter


def tell(reporter):
    with reporter:
        reporter.stage_started("export")
        reporter.stage_progress("export", 0.5, "145/291 tensors [bold]", 1 << 30)
        reporter.stage_finished("export", "291/291 tensors [x]", 14.2, int(1.4 * (1 << 30)))
        reporter.stage_started("verify")
        reporter.stage_progress("verify", None, "")
        reporter.stage_failed("verify")
        reporter.note("waits [here]")
        reporter.stage_started("left open")


def test_plain_is_one_line_a_stage():
    stream = io.StringIO()
    tell(PlainReporter(stream))
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["export", "verify", "waits"]
    assert "291/291 tensors [x]" in lines[0]
    assert lines[0].endswith("14.2 s")
    assert "peak 1.4 GiB" in lines[0]


def test_live_leaves_the_same_lines_and_takes_its_bars_away():
    stream = Terminal()
    reporter = RichReporter(stream)
    tell(reporter)
    said = stream.getvalue()
    assert finished_line("export", "291/291 tensors [x]", 14.2, int(1.4 * (1 << 30))) in said
    assert "waits [here]" in said
    assert reporter._tasks == {}
    assert isinstance(reporter._console, Console)


def test_a_cached_stage_says_so_and_claims_no_memory():
    line = finished_line("toolchain", "onnx-1eda", 0.01, 1 << 30, cached=True)
    assert "onnx-1eda (cached)" in line
    assert "peak" not in line


def test_text_from_elsewhere_cannot_drive_the_terminal():
    assert one_line("a\x1b[2Jb\r\nc") == "a [2Jb  c"
    assert "\x1b" not in finished_line("s", "\x1b]0;title\x07", 1.0)


def test_words():
    assert [size_words(n) for n in (0, 1023, 1024, 5 << 20, 3 << 30, 2 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "3.0 GiB",
        "2.0 TiB",
    ]
    assert [time_words(s) for s in (0.04, 59.9, 125, 3720)] == [
        "0.0 s",
        "59.9 s",
        "2 min 05 s",
        "1 h 02 min",
    ]
