"""The stage cache: once, whole or not at all, also between processes."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from compiler_kit import Recorder, read_pids, runner, spec, wait_until

from edgeward.compiler import stage_cache
from edgeward.compiler.stage_cache import StageCache
from edgeward.errors import StageError

HERE = Path(__file__).parent


def runs(counter: Path) -> int:
    return len(counter.read_text().splitlines()) if counter.exists() else 0


def test_a_finished_stage_is_never_run_again(tmp_path):
    counter = tmp_path / "counter"
    one = spec("count", counter=str(counter), bytes=10)
    with runner(tmp_path) as run:
        first = run.run(one)
        again = run.run(one)
    reporter = Recorder()
    with runner(tmp_path, reporter) as run:
        later = run.run(one)
    assert runs(counter) == 1
    assert (first.cached, again.cached, later.cached) == (False, True, True)
    assert replace(later, cached=False) == first
    assert reporter.finished == [("count", "", True)]


def test_another_version_input_or_parameter_runs_again(tmp_path):
    counter = tmp_path / "counter"
    one = spec("count", counter=str(counter))
    with runner(tmp_path) as run:
        for changed in (one, replace(one, version=2), spec("count", counter=str(counter), x=1)):
            run.run(changed)
    assert runs(counter) == 3


def damage_remove(entry: Path):
    (entry / "out" / "big").unlink()


def damage_shorten(entry: Path):
    os.truncate(entry / "out" / "big", 3)


def damage_add(entry: Path):
    (entry / "out" / "stranger").write_text("x")


def damage_link(entry: Path):
    (entry / "out" / "big").unlink()
    (entry / "out" / "big").symlink_to("/etc/hostname")


def damage_record(entry: Path):
    (entry / "stage.json").write_text("{")


def damage_record_type(entry: Path):
    (entry / "stage.json").write_text("[1, 2]")


def damage_record_fields(entry: Path):
    record = json.loads((entry / "stage.json").read_text())
    del record["metrics"]
    (entry / "stage.json").write_text(json.dumps(record))


def damage_swap(entry: Path):
    record = json.loads((entry / "stage.json").read_text())
    record["key"] = "0" * 64
    (entry / "stage.json").write_text(json.dumps(record))


def damage_no_record(entry: Path):
    (entry / "stage.json").unlink()


def damage_no_out(entry: Path):
    shutil.rmtree(entry / "out")


@pytest.mark.parametrize(
    "damage",
    [
        damage_remove,
        damage_shorten,
        damage_add,
        damage_link,
        damage_record,
        damage_record_type,
        damage_record_fields,
        damage_swap,
        damage_no_record,
        damage_no_out,
    ],
)
def test_a_damaged_entry_is_made_again(tmp_path, damage):
    counter = tmp_path / "counter"
    one = spec("count", counter=str(counter), bytes=10)
    with runner(tmp_path) as run:
        first = run.run(one)
        damage(first.path.parent)
        second = run.run(one)
    assert runs(counter) == 2
    assert not second.cached
    assert (second.path / "big").read_bytes() == b"x" * 10


def test_parameters_that_are_not_json_are_refused(tmp_path):
    with runner(tmp_path) as run, pytest.raises(StageError, match="not JSON"):
        run.run(spec("echo", bad=float("nan")))


def test_two_stages_run_at_the_same_time_in_workers_of_their_own(tmp_path):
    barrier = [tmp_path / "a", tmp_path / "b"]
    results = {}
    with runner(tmp_path) as run:

        def work(name):
            results[name] = run.run(
                spec("meet", own=str(barrier[name]), other=str(barrier[1 - name]))
            )

        threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results[0].data["pid"] != results[1].data["pid"]


def test_threads_that_want_the_same_stage_run_it_once(tmp_path):
    counter = tmp_path / "counter"
    cached = []
    with runner(tmp_path) as run:

        def work():
            cached.append(run.run(spec("count", counter=str(counter), sleep=0.5)).cached)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert runs(counter) == 1
    assert sorted(cached) == [False, True, True]


SCRIPT = """
import sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from compiler_kit import runner, spec
from edgeward.compiler.progress import PlainReporter
with runner(Path({cache!r}), PlainReporter(sys.stderr)) as run:
    run.run(spec({function!r}, **{params!r}))
"""


def start(cache, function, **params):
    text = SCRIPT.format(here=str(HERE), cache=str(cache), function=function, params=params)
    return subprocess.Popen([sys.executable, "-c", text], stderr=subprocess.PIPE, text=True)


def test_two_processes_that_want_the_same_stage_run_it_once(tmp_path):
    counter = tmp_path / "counter"
    both = [start(tmp_path, "count", counter=str(counter), sleep=1.5) for _ in range(2)]
    said = "".join(process.communicate()[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert runs(counter) == 1
    assert "another process is at this stage" in said
    assert "(cached)" in said


def test_a_draft_of_a_killed_process_is_swept_and_one_in_the_making_is_not(tmp_path):
    drafts = tmp_path / "stages" / "drafts"
    process = start(tmp_path, "hang", pids=str(tmp_path / "pids"))
    read_pids(tmp_path / "pids")
    assert StageCache(tmp_path).sweep() == 0
    assert len([entry for entry in drafts.iterdir() if entry.is_dir()]) == 1
    process.kill()
    process.communicate()
    with runner(tmp_path):
        assert list(drafts.iterdir()) == []


def test_a_stage_that_a_killed_process_was_making_can_be_made(tmp_path):
    counter = tmp_path / "counter"
    process = start(tmp_path, "count", counter=str(counter), sleep=2)
    wait_until(counter.exists, "it runs")
    process.kill()
    process.communicate()
    with runner(tmp_path) as run:
        assert not run.run(spec("count", counter=str(counter), sleep=2)).cached
    assert runs(counter) == 2


def test_pruning_removes_the_longest_unused_first_and_never_one_in_use(tmp_path):
    specs = [spec("count", counter=str(tmp_path / "c"), bytes=100_000, n=n) for n in range(4)]
    cache = StageCache(tmp_path)
    with runner(tmp_path) as run:
        entries = [run.run(one).path.parent for one in specs]
    for age, entry in enumerate(entries):
        os.utime(entry / "stage.json", (1000 + age, 1000 + age))
    with runner(tmp_path) as run:
        run.run(specs[0])
        os.utime(entries[0] / "stage.json", (1000, 1000))
        assert cache.size() > 400_000
        freed = cache.prune(250_000)
        assert [entry.exists() for entry in entries] == [True, False, False, True]
        assert 200_000 <= freed <= 210_000
        cache.prune(0)
        assert [entry.exists() for entry in entries] == [True, False, False, False]
    cache.prune(0)
    assert cache.size() == 0


def test_a_disk_that_fills_while_an_entry_is_kept_is_told(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stage_cache, "sync_tree", full)
    with runner(tmp_path) as run, pytest.raises(StageError, match="the disk is full") as caught:
        run.run(spec("echo"))
    assert "EDGEWARD_CACHE" in caught.value.next
    assert list((tmp_path / "stages" / "drafts").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "stages").write_text("a file where a folder should be")
    with pytest.raises(StageError, match="cannot be used"):
        runner(tmp_path)


def test_a_result_is_the_input_of_the_next_stage(tmp_path):
    with runner(tmp_path) as run:
        first = run.run(spec("echo", text="a"))
        second = run.run(spec("echo", inputs={"x": first.as_input("sub/file.txt")}))
    assert (second.path / "x").read_text() == "a"
    assert first.as_input().digest == first.key
    assert first.as_input("sub").digest != first.as_input().digest
