"""Many machines: nothing missing and nothing twice, whatever dies; and what is said where it cannot begin."""

from __future__ import annotations

import builtins
import dataclasses
import fcntl
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
import yaml

from edge import cli, options, plan, summary, worker
from edge.archive.work import CRASHED, FAILED, RESTORED, SKIPPED, Recipe, Work
from edge.cluster import certificates, client, note, scheduler, task
from edge.cluster.certificates import make_certificates
from edge.cluster.client import Cluster
from edge.cluster.note import Note
from edge.cluster.simulation import Costs, Job, predict, simulate, size_of_batch
from edge.cluster.task import Batch
from edge.cluster.where import Where, parse_where
from edge.errors import UserError
from tests.edge import chaos
from tests.edge.files import assert_refused, load, names, picture, store

ROOT = Path(__file__).parents[2]


# --- the whole of it ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
def test_with_workers_and_the_scheduler_killed_every_output_is_there_once_and_right(work, bundle):
    """`python -m tests.edge.chaos` is the same with more."""
    report = chaos.run(work, bundle, pictures=40, kills=2, workers=2, size=200, limit_s=200)
    assert report.wrong == [], report.said
    assert report.kills == 2 and report.scheduler_killed
    assert "a scheduler is there again" in report.said and "40 pictures restored" in report.said


# --- what --cluster names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scheduler", "exposed"),
    [
        ("127.0.0.1:8786", "127.0.0.1:8786", False),
        ("tcp://localhost:8786", "localhost:8786", False),
        ("[::1]:8786", "[::1]:8786", False),
        ("192.0.2.7:8786", "192.0.2.7:8786", True),
    ],
)
def test_a_scheduler_and_whether_others_reach_it(text, scheduler, exposed):
    where = parse_where(text)
    assert (where.scheduler, where.exposed, where.address) == (scheduler, exposed, f"tcp://{scheduler}")


def test_a_file_names_certificates_beside_it(work):
    make_certificates(work)
    (work / "c.yaml").write_text(
        "scheduler: 192.0.2.7:8786\ntls: {ca: ca.pem, cert: cert.pem, key: key.pem}\nwait_s: 5"
    )
    where = parse_where(str(work / "c.yaml"))
    assert where.address == "tls://192.0.2.7:8786" and not where.exposed and where.wait_s == 5
    assert (work / "key.pem").stat().st_mode & 0o077 == 0
    assert where.certificates.security().require_encryption
    (work / "ca.pem").write_text("no certificate")
    with pytest.raises(UserError, match="are not an authority, a certificate and its key"):
        where.certificates.security()
    assert worker.main([str(work / "c.yaml")]) == 2
    (work / "l.yaml").write_text("local: 3\ndashboard: 0.0.0.0:8787")
    assert parse_where(str(work / "l.yaml")) == Where(local=3, dashboard="0.0.0.0:8787")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- 1", "holds no names"),
        ("scheduler: [", "is no YAML"),
        ("port: 3", "port is none of dashboard, local"),
        ("wait_s: 3", "either scheduler: HOST:PORT or local: N"),
        ("scheduler: here", "scheduler is no HOST:PORT"),
        ("local: many", "from 1 to 1024"),
        ("local: 2\nwait_s: -1", "wait_s"),
        ("local: 2\nwait_s: .nan", "wait_s"),
        ("local: 2\ndashboard: here", "dashboard is neither"),
        ("scheduler: a:1\ndashboard: a:2", "its scheduler says"),
        ("scheduler: a:1\ntls: yes", "three files"),
        ("scheduler: a:1\ntls: {ca: x, cert: x, key: x}", "x is not there"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(work, content, words):
    (work / "c.yaml").write_text(content)
    with pytest.raises(UserError, match=words):
        parse_where(str(work / "c.yaml"))


def test_a_scheduler_that_is_not_there_is_the_only_fault_told(work, restore):
    store(work / "a.png", picture())
    (work / "c.yaml").write_text("scheduler: 127.0.0.1:1\nwait_s: 0.05")
    run = restore(work, "--out", f"{work}/out/", "--cluster", work / "c.yaml")
    told = run.err
    assert run.code == 2
    assert "no scheduler is at 127.0.0.1:1, after 0.05 s" in told and "hold no images" not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cluster", "here"], ["HOST:PORT of a scheduler, local:N"]),
        (["--cluster", "local:0"], ["from 1 to 1024"]),
        (["--cluster", "none.yaml"], ["cannot be read"]),
        (["--cluster", "local:2", "--jobs", "2"], ["--jobs", "leave one of them out"]),
        (["--cluster", "local:2", "--board", "native"], ["--board", "leave one of them out"]),
    ],
)
def test_what_cannot_be_is_refused(work, restore, arguments, words):
    assert_refused(restore(store(work / "a.png", picture()), *arguments), *words)
    assert names(work) == ["a.png"]


def test_a_scheduler_that_is_nowhere_is_all_that_is_said(work, restore):
    (work / "c.yaml").write_text("scheduler: 127.0.0.1:9\nwait_s: 0.2\n")
    run = restore(store(work / "a.png", picture()), "--cluster", work / "c.yaml")
    assert run.code == 2 and "no scheduler is at 127.0.0.1:9" in run.err and "hold no images" not in run.err


def test_without_dask_a_sentence_says_what_to_install(work, restore, monkeypatch):
    original = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "distributed":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    run = restore(store(work / "a.png", picture()), "--cluster", "local:2")
    assert_refused(run, "pip install 'spikerir-edge[cluster]'")


def test_certificates_replace_none(work, capsys):
    assert certificates.main([str(work / "certs")]) == 0
    key = (work / "certs/key.pem").read_bytes()
    assert certificates.main([str(work / "certs")]) == 2
    assert "is there already, and a cluster may run with it" in capsys.readouterr().err
    assert (work / "certs/key.pem").read_bytes() == key and (work / "certs/key.pem").stat().st_mode & 0o077 == 0


def test_a_worker_joins_no_other_machine_without_certificates(capsys):
    assert worker.main(["192.0.2.7:8786"]) == 2
    said = capsys.readouterr().err
    assert "can run any program there" in said and "--insecure" in said
    assert worker.main(["local:2"]) == 2 and "belongs to a scheduler" in capsys.readouterr().err
    assert scheduler.main(["192.0.2.7:8786"]) == 2 and "--insecure" in capsys.readouterr().err
    assert scheduler.main(["127.0.0.1:8786", "--dashboard", "here"]) == 2
    assert "--dashboard here is neither HOST:PORT nor none." in capsys.readouterr().err


def test_the_examples_for_slurm_and_kubernetes_name_options_that_there_are():
    commands = []
    for path in sorted((ROOT / "packaging" / "kubernetes").glob("*.yaml")):
        for document in filter(lambda found: found["kind"] == "Job", yaml.safe_load_all(path.read_text())):
            for container in document["spec"]["template"]["spec"]["containers"]:
                arguments = container["args"]
                if len(arguments) == 1:  # of a shell
                    arguments = arguments[0].replace("$((JOB_COMPLETION_INDEX + 1))", "3").split()[2:]
                commands.append(arguments)
    for path in sorted((ROOT / "packaging" / "slurm").glob("*.sbatch")):
        subprocess.run(["bash", "-n", path], check=True)
        script = path.read_text().replace("\\\n", " ").replace("$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT", "3/16")
        script = script.replace("${SLURM_CPUS_PER_TASK:-1}", "4").replace("${TASK:-denoise}", "denoise")
        line = next(line for line in script.splitlines() if 'edge-restore "${SOURCE' in line)
        commands.append(shlex.split(line.removeprefix("srun "))[1:])
    assert len(commands) == 4
    for arguments in commands:
        args = options.parsed(cli.build_parser(), arguments)
        assert args.recursive and args.skip_existing and args.out and (args.cluster or args.shard == (3, 16))


def test_a_worker_waits_for_its_scheduler_and_ends_when_told(work):
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.worker", "127.0.0.1:9", "--workers", "1", "--with-input"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert b"1 process for 127.0.0.1:9" in process.stdout.readline()
    process.stdin.close()
    assert process.wait(30) == 0 and b"ended" in process.stdout.read()


def test_restoring_a_picture_imports_nothing_of_all_this(work, bundle):
    program = (
        "import sys\nfrom edge import cli\ncode = cli.main(sys.argv[1:])\n"
        "wanted = ('distributed', 'dask', 'psutil', 'cryptography', 'edge.cluster', 'edge.archive', 'edge.plan', "
        "'edge.worker', 'edge.boards', 'firmware_bridge.pool', 'firmware_bridge.boards')\n"
        "print([name for name in sys.modules if name.startswith(wanted)])"
    )
    arguments = [str(store(work / "a.png", picture())), "--task", "denoise", "--bundle", str(bundle)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--out", str(work / "b.png")],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]", done


# --- a batch, and its note ------------------------------------------------------------------------------------------


@pytest.fixture
def batch(work, bundle, network) -> Batch:
    """Three pictures."""
    works = []
    for number in range(3):
        path = store(work / f"{number}.png", picture(seed=number))
        works.append(Work(path.name, str(path), str(work / "out" / path.name), path.stat().st_size))
    recipe = Recipe(bundle)
    path = note.path_of(str(work / "out"), "run", 1)
    note.create(path)
    return Batch(recipe, network.bundle_hash, recipe.options, tuple(works), path)


def restored(batch: Batch) -> task.Answer:
    return task.restore(batch, task.WIRE)


def test_a_batch_that_is_done_again_writes_nothing_again(batch, network):
    first = restored(batch)
    targets = [Path(each.target) for each in batch.works]
    before = [target.stat().st_ino for target in targets]
    second = restored(batch)
    assert [target.stat().st_ino for target in targets] == before
    told = [[{**each.record, "latency_ms": 0} for each in answer.told] for answer in (first, second)]
    assert told[0] == told[1] and len(first.statistics) == 3
    assert first.statistics.layers == second.statistics.layers
    for number, target in enumerate(targets):
        assert np.array_equal(load(target), network.run(picture(seed=number)).image)


def test_after_a_kill_at_any_moment_only_what_is_missing_is_written(batch):
    """Before the output's name, and in the middle of writing it."""
    restored(batch)
    first, second, third = (Path(each.target) for each in batch.works)
    third.unlink()
    left = third.with_name(f".{third.stem}.{'0' * 12}{third.suffix}")
    left.write_bytes(b"half")
    inodes = [first.stat().st_ino, second.stat().st_ino]
    assert [told.record["status"] for told in restored(batch).told] == [RESTORED] * 3
    assert [first.stat().st_ino, second.stat().st_ino] == inodes and third.exists() and not left.exists()


def test_an_output_that_somebody_changed_is_written_again(batch, network):
    restored(batch)
    target = Path(batch.works[0].target)
    target.write_bytes(b"something else")
    restored(batch)
    assert np.array_equal(load(target), network.run(picture(seed=0)).image)


def test_a_batch_that_nobody_has_begun_replaces_what_stands_there(batch):
    """As without a cluster: only an earlier attempt of the same run leaves what is not to be written again."""
    restored(batch)
    before = Path(batch.works[0].target).stat().st_ino
    note.remove(batch.note)
    note.create(batch.note)
    kept = open(batch.works[0].target, "rb")  # so that its inode is not given to the next file
    restored(batch)
    kept.close()
    assert Path(batch.works[0].target).stat().st_ino != before


def test_a_worker_that_comes_to_a_batch_too_late_does_nothing(batch):
    """As one does that has lost its scheduler and has not noticed yet."""
    note.remove(batch.note)
    with pytest.raises(note.Unwanted):
        restored(batch)
    assert not Path(batch.works[0].target).exists() and not Path(batch.note).exists()


def test_a_note_that_cannot_be_written_ends_the_run_as_an_output_would(batch):
    note.remove(batch.note)
    Path(batch.note).mkdir()
    [done] = restored(batch).told
    assert done.fatal and done.record["kind"] == "stored" and "underway" in done.record["reason"]


def test_whoever_has_a_batch_that_another_is_still_at_waits_for_it(batch, monkeypatch):
    with open(batch.note, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=restored, args=(batch,))
        thread.start()
        time.sleep(0.3)
        assert not Path(batch.works[0].target).exists()
    thread.join(30)
    assert Path(batch.works[0].target).exists()
    monkeypatch.setattr(note, "LOCK_S", 0.1)  # a worker that has hung for long is not waited for for ever
    with open(batch.note, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with Note(batch.note):
            pass


def test_notes_of_runs_long_ago_are_removed_and_others_are_not(work):
    folder = Path(note.path_of(str(work), "run", 1)).parent
    folder.mkdir(parents=True)
    (folder / "old-1.jsonl").touch()
    (folder / "new-1.jsonl").touch()
    os.utime(folder / "old-1.jsonl", (0, 0))
    note.remove_old(str(work))
    assert [path.name for path in folder.iterdir()] == ["new-1.jsonl"]


def test_a_worker_with_another_network_or_version_says_so(batch):
    with pytest.raises(UserError, match="another network"):
        restored(dataclasses.replace(batch, bundle="0" * 64))
    with pytest.raises(UserError, match="another version"):
        restored(dataclasses.replace(batch, options="0"))
    with pytest.raises(UserError, match="another version"):
        task.restore(batch, task.WIRE - 1)


def test_what_is_known_to_be_there_and_what_cannot_be_read_is_told(batch):
    done = restored(batch).told[0]
    known = dataclasses.replace(batch.works[0], known=done.record["input"], there=done.record["bytes"])
    broken = dataclasses.replace(batch.works[1], name="b", source="nowhere.png")
    again = restored(dataclasses.replace(batch, works=(known, broken), note=None))
    assert [told.record["status"] for told in again.told] == [SKIPPED, FAILED]


# --- the run's side, with a Dask that fails as the test says --------------------------------------------------------


class Future:
    def __init__(self, result):
        self._result = result
        self.status = "error" if isinstance(result, BaseException) else "finished"

    def result(self):
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def add_done_callback(self, told):
        told(self)


class Dask:
    """In the place of `distributed.Client`: does each batch at once, or fails as `fault(batch, number)` returns."""

    def __init__(self, fault=lambda batch, number: None, threads=2):
        self.status, self.threads, self.fault, self.submitted, self.clients = "running", threads, fault, 0, 0
        self.most, self.sizes, self.seconds = 0, [], 1e-3

    def __call__(self, *arguments, **options):
        self.status = "running"
        self.clients += 1
        return self

    def scheduler_info(self, n_workers):
        return {"total_threads": self.threads}

    def submit(self, function, batch, wire, **options):
        self.submitted += 1
        self.sizes.append(len(batch.works))
        fault = self.fault(batch, self.submitted)
        return Future(fault or dataclasses.replace(function(batch, wire), seconds=self.seconds * len(batch.works)))

    def cancel(self, futures): ...

    def close(self, timeout): ...


@pytest.fixture
def cluster(work, bundle, network, monkeypatch):
    """cluster(dask): a run's side of it, without waiting."""
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)

    def of(dask, wait_s=5.0):
        import distributed

        monkeypatch.setattr(distributed, "Client", dask)
        where = Where("127.0.0.1:1", wait_s=wait_s)
        said = []
        made = Cluster(where, Recipe(bundle), network.bundle_hash, str(work / "out"), said.append)
        made.said = said
        return made

    return of


def works(folder: Path, count: int) -> list[Work]:
    return [
        Work(path.name, str(path), str(folder / "out" / path.name), path.stat().st_size)
        for path in (store(folder / f"{number:03d}.png", picture(8, 8, seed=number)) for number in range(count))
    ]


def test_results_come_in_order_and_the_list_is_not_read_ahead_of_them(work, cluster):
    dask, given = Dask(), 0

    def listing():
        nonlocal given
        for each in everything:
            given += 1
            yield each

    everything = works(work, 150)
    arrived = []
    made = cluster(dask)
    running = made.results(listing(), arrived.append)
    assert next(running).work.name == "000.png" and given <= 10  # the first result soon
    assert [done.work.name for done in running] == [each.name for each in everything[1:]]
    assert sorted(done.work.name for done in arrived) == [each.name for each in everything]
    [(name, pictures)] = made.report()["workers"].items()
    assert name.endswith(f":{os.getpid()}") and pictures == 150
    assert summary.workers_lines(made.report()) == [f"  {name.rpartition(':')[0]}: 150 pictures by 1 process"]
    assert names(work / "out") == sorted([".edge-restore", *(each.name for each in everything)])  # no note is left


def test_batches_grow_count_large_files_for_several_and_become_smaller_at_the_end(work, cluster):
    dask = Dask(threads=1)
    dask.seconds = 0.05
    everything = works(work, 100)
    everything[40:60] = [dataclasses.replace(each, size=3 * each.size) for each in everything[40:60]]
    assert len(list(cluster(dask).results(iter(everything), lambda done: None))) == 100
    at = dask.sizes.index(10)  # of half a second
    assert dask.sizes[:at] == [1] * at and at < 5
    assert set(dask.sizes[at : at + 3]) == {10} and 4 in dask.sizes[at + 3 : -5]
    assert dask.sizes[-3:] == [5, 3, 2]


def test_a_picture_that_brings_workers_down_is_found_and_the_others_are_restored(work, cluster):
    import distributed

    def fault(batch, number):
        if any(each.name == "007.png" for each in batch.works):
            return distributed.KilledWorker("x", None, 3)
        return None

    arrived = []
    done = list(cluster(Dask(fault)).results(iter(works(work, 20)), arrived.append))
    assert [each.status for each in done] == [FAILED if each.work.name == "007.png" else RESTORED for each in done]
    assert done[7].record["kind"] == CRASHED and "enough memory" in done[7].record["reason"]
    assert len(done) == len(arrived) == 20


def test_when_the_scheduler_is_lost_everything_under_way_goes_to_the_next_one(work, cluster):
    lost = Dask(lambda batch, number: CancelledError() if number in (3, 4, 9) else None)
    made = cluster(lost)
    arrived = []
    done = list(made.results(iter(works(work, 30)), arrived.append))
    assert [each.status for each in done] == [RESTORED] * 30 and len(arrived) == 30
    assert lost.clients >= 3 and any("is lost; it is waited for" in each for each in made.said)


def test_a_cluster_without_a_scheduler_or_without_workers_is_given_up(work, cluster, monkeypatch):
    class Away(Dask):
        def __call__(self, *arguments, **options):
            raise OSError("nobody")

    made = cluster(Away(), wait_s=0.05)
    with pytest.raises(UserError, match=r"no scheduler is at 127.0.0.1:1, after 0.05 s"):
        list(made.results(iter(works(work, 3)), lambda done: None))
    assert made.said == ["no scheduler is at 127.0.0.1:1; it is waited for"]

    class Idle(Dask):
        def submit(self, function, batch, wire, **options):
            future = Future(None)
            future.add_done_callback = lambda told: None
            return future

    monkeypatch.setattr(client, "END_S", 0.1)
    with pytest.raises(UserError, match="no worker has come"):
        list(cluster(Idle(threads=0), wait_s=0.1).results(iter(works(work, 3)), lambda done: None))


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'edge.cluster'"),
        AttributeError("Can't get attribute 'Batch' on <module 'edge.cluster.task'>"),
        TypeError("restore() takes 1 positional argument but 2 were given"),
    ],
)
def test_workers_that_cannot_read_a_batch_have_another_version(work, cluster, error):
    made = cluster(Dask(lambda batch, number: error))
    with pytest.raises(UserError, match="another version of spikerir-edge"):
        list(made.results(iter(works(work, 2)), lambda done: None))


def test_a_worker_that_says_that_nobody_can_go_on_ends_the_run(work, cluster):
    made = cluster(Dask(lambda batch, number: UserError("another network") if number == 2 else None))
    with pytest.raises(UserError, match="another network"):
        list(made.results(iter(works(work, 10)), lambda done: None))


# --- plans ----------------------------------------------------------------------------------------------------------

COSTS = Costs(picture_s=0.003, megapixel_s=0.14, client_s=0.0006, batch_s=0.01, start_s=6.0)


@pytest.mark.parametrize(
    ("job", "narrowest"),
    [
        (Job(10_000, 0.5), "cores"),
        (Job(10_000, 0.5, workers=2, together=True), "cores"),
        (Job(10**6, 2.0, machines=10, cores=16, store_bytes_s=1e10), "cores"),
        (Job(10**6, 2.0, machines=100, cores=16, store_bytes_s=1e9), "store"),
        (Job(10**6, 0.01, machines=100, cores=16, store_bytes_s=1e11), "client"),
        (Job(10**9, 2.0, machines=100, cores=16, clients=10, store_bytes_s=1e11), "cores"),
    ],
)
def test_the_formula_and_the_simulation_agree(job, narrowest, capsys):
    predicted, simulated = predict(COSTS, job), simulate(COSTS, job, most_batches=2000)
    print(f"{job}: predicted {predicted.seconds:.0f} s, simulated {simulated:.0f} s")
    assert predicted.narrowest == narrowest
    assert predicted.seconds == pytest.approx(simulated, rel=0.15)


def test_failures_cost_what_is_lost_and_starting_anew():
    job = Job(20_000, 0.5, machines=2, cores=4, failures_h=0.05)
    spared = dataclasses.replace(job, failures_h=1e6)
    assert simulate(COSTS, job) > 1.02 * simulate(COSTS, spared)
    assert predict(COSTS, job).seconds == pytest.approx(simulate(COSTS, job), rel=0.1)
    assert size_of_batch(COSTS, job) == 7


def test_costs_are_found_from_runs_of_two_sizes():
    runs = [
        plan.Run(1, size, 100, 10, 6.0, 9.0, 9.0, 100 * COSTS.worker_s(size**2 / 1e6), 20.0, 0.06, 0.1, 3.0)
        for size in plan.SIZES
    ]
    found = plan.fit(runs)
    assert (found.picture_s, found.megapixel_s) == pytest.approx((COSTS.picture_s, COSTS.megapixel_s))
    assert (found.client_s, found.batch_s, found.start_s) == pytest.approx((0.0006, 0.01, 6.0))


def test_whoever_has_read_enough_of_a_plan_may_go():
    command = [sys.executable, "-m", "edge.plan"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 0


def test_the_plan_is_a_table_and_mistakes_are_sentences(work, capsys):
    assert plan.main(["--pictures", "1e6", "--machines", "1", "10"]) == 0
    table = capsys.readouterr().out
    assert "| 1,000,000 | 10 |" in table and "simulated" in table and "1 client\n" in table
    assert plan.main(["--pictures", "1e9", "--machines", "1"]) == 0
    table = capsys.readouterr().out
    assert "| 1,000,000,000 | 1 | 3,1" in table and "e+" not in table and "-0%" not in table
    (work / "costs.json").write_text('{"costs": {"speed": 3}}')
    assert plan.main(["--costs", str(work / "costs.json")]) == 2
    assert "is not what --measure --json writes" in capsys.readouterr().err
    assert plan.main(["--costs", str(work / "none.json")]) == 2
    for cost in ("NaN", "0", "-1", "1e300", '"a"'):
        (work / "costs.json").write_text(json.dumps({"costs": dataclasses.asdict(COSTS)}).replace("0.14", cost))
        assert plan.main(["--costs", str(work / "costs.json")]) == 2
    (work / "costs.json").write_text("[" * 100_000)
    assert plan.main(["--costs", str(work / "costs.json")]) == 2
    for nonsense in (["--failures", "1e-9"], ["--machines", "1e14"], ["--measure", "--count", "1"],
                     ["--measure", "--bundle", "none"], ["--json", "x.json"],
                     ["--measure", "--json", "nowhere/x.json"]):  # fmt: skip
        assert plan.main(nonsense) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 13 and said.out == ""  # no head of a table that does not come
    with pytest.raises(SystemExit, match="2"):
        plan.main(["--machines", "0.5"])
