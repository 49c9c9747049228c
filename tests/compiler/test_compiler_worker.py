"""Stages in real child processes that behave badly in every way we know of."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from compiler_kit import Recorder, is_running, read_pids, runner, spec, wait_until

from edgeward.compiler.stages import StageInput
from edgeward.errors import (
    ProofError,
    StageCrashedError,
    StageError,
    StageLimitError,
)

HERE = Path(__file__).parent


def test_a_stage_reads_its_inputs_and_leaves_files_data_metrics_and_costs(tmp_path):
    source = tmp_path / "given"
    source.write_text("content")
    reporter = Recorder()
    with runner(tmp_path / "cache", reporter) as run:
        inputs = {"copy": StageInput(source, "digest")}
        result = run.run(spec("echo", inputs=inputs, text="é\n"))
    assert (result.path / "copy").read_text() == "content"
    assert (result.path / "sub" / "file.txt").read_text() == "é\n"
    assert result.data["params"] == {"text": "é\n"}
    assert result.metrics == {"figure": 2.5}
    assert result.peak_memory_bytes > 1 << 20
    assert result.versions["pytest"]
    assert not list(tmp_path.rglob("temporary"))
    assert reporter.finished == [("echo", "echoed", False)]
    assert any(fraction == 0.5 and memory for _, fraction, _, memory in reporter.progress)
    logs = list((tmp_path / "cache" / "logs").iterdir())
    assert "said on purpose" in logs[0].read_text()


def test_one_process_serves_all_stages_of_a_toolchain(tmp_path):
    with runner(tmp_path) as run:
        pids = {run.run(spec("echo", text=str(n))).data["pid"] for n in range(3)}
    (pid,) = pids
    assert pid != os.getpid()
    assert not is_running(pid)


def test_what_a_stage_left_in_circles_is_freed_where_it_is_much(tmp_path):
    """Searching a converter's modules takes most of a second: not for a stage that left little."""
    with runner(tmp_path) as run:
        before = run.run(spec("searches", turn=0)).data
        run.run(spec("leaves_a_circle", bytes=64 << 20))
        freed = run.run(spec("searches", turn=1)).data
        run.run(spec("leaves_a_circle", bytes=1 << 20))
        after = run.run(spec("searches", turn=2)).data
    assert freed["searches"] > before["searches"]
    assert freed["held"] < before["held"] + (32 << 20)
    assert after["searches"] == freed["searches"]


def test_prints_of_a_converter_do_not_break_the_protocol(tmp_path):
    with runner(tmp_path) as run:
        assert run.run(spec("noisy")).data == {"ok": True}
        assert len(run.run(spec("noisy_threads")).metrics) == 200
    assert "garbage before" in next((tmp_path / "logs").iterdir()).read_text(errors="replace")


def test_an_edgeward_error_comes_back_as_itself(tmp_path):
    with runner(tmp_path) as run:
        with pytest.raises(ProofError) as caught:
            run.run(spec("raise_proof"))
        assert run.run(spec("echo")).data["summary"] == "echoed"
    error = caught.value
    assert (error.what, error.why, error.next) == (
        "KL 0.4 is above 0.05",
        "two bits",
        "edgeward compile x",
    )
    assert error.exit_code == 3


def test_any_other_error_tells_its_last_line_and_the_log(tmp_path):
    with runner(tmp_path) as run, pytest.raises(StageError) as caught:
        run.run(spec("raise_other"))
    assert "raise_other failed: KeyError" in caught.value.what
    assert "second line" in caught.value.what
    log = Path(caught.value.why.removeprefix("Log: "))
    assert "the last thing said" in log.read_text()
    assert "Traceback" in log.read_text()


def test_a_failed_allocation_is_told_as_memory(tmp_path):
    with runner(tmp_path) as run, pytest.raises(StageLimitError, match="ran out of memory"):
        run.run(spec("raise_memory"))


def test_a_full_disk_is_told_as_a_full_disk(tmp_path):
    with runner(tmp_path) as run, pytest.raises(StageError, match="the disk is full"):
        run.run(spec("raise_disk"))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("leave", "SystemExit"),
        ("not_a_dict", "returned list"),
        ("not_json", "not JSON"),
        ("not_finite", "loss is nan"),
        ("too_large", "bytes"),
        ("makes_a_link", "link"),
        ("no_such_function", "AttributeError"),
    ],
)
def test_a_wrong_answer_is_an_error_and_leaves_nothing(tmp_path, function, words):
    reporter = Recorder()
    with runner(tmp_path, reporter) as run:
        with pytest.raises(StageError, match=words):
            run.run(spec(function))
        assert run.run(spec("echo")).data["summary"] == "echoed"
    assert reporter.failed == [function]
    assert list((tmp_path / "stages" / "drafts").iterdir()) == []
    assert len(list((tmp_path / "stages").glob("*/stage.json"))) == 1


@pytest.mark.parametrize("code", [0, 3])
def test_an_end_without_an_answer_is_a_crash(tmp_path, code):
    with runner(tmp_path) as run:
        with pytest.raises(StageCrashedError, match=rf"without an answer \(exit status {code}\)"):
            run.run(spec("vanish", code=code))
        assert run.run(spec("echo")).data["summary"] == "echoed"


def test_a_segmentation_fault_is_named_with_what_was_last_said(tmp_path):
    with runner(tmp_path) as run, pytest.raises(StageCrashedError) as caught:
        run.run(spec("segfault"))
    assert "SIGSEGV" in caught.value.what
    log = Path(caught.value.why.rpartition("Log: ")[2])
    assert "about to touch address zero" in log.read_text()
    assert "compiler_stage_functions.py" in log.read_text()


@pytest.mark.parametrize("name", ["SIGABRT", "SIGILL", "SIGKILL", "SIGBUS", "SIGUSR1"])
def test_a_death_by_signal_is_named(tmp_path, name):
    with runner(tmp_path) as run, pytest.raises(StageCrashedError, match=name):
        run.run(spec("die_by", signal=int(getattr(signal, name))))


def test_memory_beyond_the_limit_ends_the_stage_in_words(tmp_path):
    with runner(tmp_path, memory_bytes=100 << 20) as run:
        with pytest.raises(StageLimitError) as caught:
            run.run(spec("allocate", pieces=100))
        assert run.run(spec("allocate", pieces=2)).data == {"held": 2}
    assert "ran out of memory: used" in caught.value.what
    assert "of 100.0 MiB" in caught.value.what
    assert "It needs at least" in caught.value.why
    assert caught.value.next


def test_memory_of_grandchildren_counts(tmp_path):
    with (
        runner(tmp_path, memory_bytes=150 << 20, seconds=60) as run,
        pytest.raises(StageLimitError, match="ran out of memory"),
    ):
        run.run(spec("grandchild_allocates"))


def test_a_stage_over_its_time_is_ended_with_all_it_started(tmp_path):
    pids = tmp_path / "pids"
    with runner(tmp_path, seconds=1.5) as run:
        with pytest.raises(StageLimitError, match=r"did not end within 1\.5 s"):
            run.run(spec("hang", pids=str(pids)))
        for pid in read_pids(pids):
            wait_until(lambda pid=pid: not is_running(pid), "the group is gone")
    assert list((tmp_path / "stages" / "drafts").iterdir()) == []


def test_a_line_without_an_end_is_told(tmp_path):
    with runner(tmp_path) as run, pytest.raises(StageCrashedError, match="without an end"):
        run.run(spec("writes_on_the_wire"))


def test_a_lost_pipe_is_told(tmp_path):
    with runner(tmp_path, seconds=20) as run, pytest.raises(StageError):
        run.run(spec("closes_everything"))


SCRIPT = """
import sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from compiler_kit import runner, spec
with runner(Path({cache!r})) as run:
    print("begin", flush=True)
    run.run(spec({function!r}, pids={pids!r}))
"""


def start(tmp_path, function):
    text = SCRIPT.format(
        here=str(HERE), cache=str(tmp_path), function=function, pids=str(tmp_path / "pids")
    )
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.parametrize("function", ["hang", "hang_in_native_code"])
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_no_process_outlives_a_parent_that_is_killed(tmp_path, function, name):
    parent = start(tmp_path, function)
    pids = read_pids(tmp_path / "pids")
    assert all(is_running(pid) for pid in pids)
    parent.send_signal(getattr(signal, name))
    parent.wait()
    for pid in pids:
        wait_until(lambda pid=pid: not is_running(pid), f"{pid} dies with its parent")


def test_an_interruption_ends_the_group_and_leaves_no_draft(tmp_path):
    parent = start(tmp_path, "hang")
    pids = read_pids(tmp_path / "pids")
    parent.send_signal(signal.SIGINT)
    _, said = parent.communicate()
    assert b"KeyboardInterrupt" in said
    assert not any(is_running(pid) for pid in pids)
    assert list((tmp_path / "stages" / "drafts").iterdir()) == []


def test_the_end_of_the_thread_that_started_it_does_not_end_a_worker(tmp_path):
    pids = []
    with runner(tmp_path) as run:

        def first():
            pids.append(run.run(spec("echo", text="1")).data["pid"])

        thread = threading.Thread(target=first)
        thread.start()
        thread.join()
        assert run.run(spec("echo", text="2")).data["pid"] == pids[0]


def test_a_worker_sees_nothing_of_the_parent_that_could_lead_it_astray(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "astray"))
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    with runner(tmp_path) as run:
        seen = run.run(spec("environment")).data
    variables = seen["variables"]
    assert "PYTHONSTARTUP" not in variables
    assert "PYTHONPATH" not in variables
    assert variables["OMP_NUM_THREADS"] == "1"
    assert variables["PYTHONHASHSEED"] == "0"
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert str(tmp_path / "astray") not in seen["path"]
    assert str(HERE) not in seen["path"]
    assert "" not in seen["path"]
    assert seen["temporary"] == seen["scratch"]
    heavy = {"click", "rich", "pydantic", "numpy"}
    assert not heavy & set(seen["modules"])
