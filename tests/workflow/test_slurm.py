"""A study on a real SLURM of one node: what becomes of its jobs there, and that no bit differs.

SLURM_UP names the script that starts and stops the SLURM; it needs root. `make slurm` runs this.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import MICRO, Checkout, check_out
from storm import jobs, without_times

from imcl.files import sha256
from imcl.progress import Events
from imcl.project import Project

pytestmark = pytest.mark.slurm

UP = os.environ.get("SLURM_UP", "")
COMMAND = (
    *("snakemake", "--workflow-profile", "workflow/profiles/slurm", "records"),
    # This SLURM keeps no accounts, and its jobs take seconds.
    *("--slurm-status-command", "squeue", "--slurm-no-account"),
    *("--slurm-init-seconds-before-status-checks", "3"),
)
STUDY = {
    **MICRO,
    "noise": ["clean"],
    "methods": ["base", "kernel", "control"],
    "seeds": [1],
    "training": {**MICRO["training"], "epochs": 30, "batch_size": 64, "evaluations": 3},
}
SHORT_S = 7  # between the seeds of `kernel` and `control`, as the plan estimates them
PATIENCE_S = 240


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running SLURM, which ends with the tests."""
    if not UP:
        pytest.skip("no SLURM: name the script that starts one with SLURM_UP")
    if os.geteuid() != 0:
        pytest.skip("only root can start a SLURM")
    environment = {**os.environ, "SLURM_TEST_DIR": str(tmp_path_factory.mktemp("slurm"))}
    del environment["OMP_NUM_THREADS"]  # which `nproc` heeds, and so the node would have one CPU
    try:
        subprocess.run([UP, "start"], env=environment, check=True)
        yield
    finally:
        subprocess.run(["scancel", "--full", "--signal=KILL", "--user=root"])
        for _ in range(100):
            if not subprocess.run(["squeue", "--noheader"], capture_output=True).stdout:
                break
            time.sleep(0.3)
        subprocess.run([UP, "stop"], env=environment, check=True)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout of the study, to be run here."""
    made = check_out(tmp_path_factory.mktemp("here"))
    made.change(studies__micro=STUDY)
    # The two views of `control` make its seed long here: it is a job of its own, to be collected.
    cost = made.folder / "src/imcl/study/cost.py"
    cost.write_text(cost.read_text().replace("SHORT_SECONDS = 120", f"SHORT_SECONDS = {SHORT_S}"))
    made.commit("study")
    return made


@pytest.fixture(scope="module")
def run(slurm: None, here: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Run"]:
    """The same study in another checkout, running on the SLURM."""
    started = Run(here.clone(tmp_path_factory.mktemp("there") / "checkout"))
    try:
        yield started
    finally:
        started.engine.kill()
        started.engine.wait()


def ask(*command: str) -> str:
    return subprocess.check_output(command, text=True)


class Run:
    """A study that runs on the SLURM, in a checkout."""

    def __init__(self, checkout: Checkout):
        self.checkout, self.begun = checkout, time.monotonic()
        self.engine = checkout.start(*COMMAND)

    def say(self, event: str) -> None:
        print(f"{time.monotonic() - self.begun:6.1f} s  {event}", flush=True)

    def jobs(self) -> dict[str, tuple[str, str]]:
        """The number and state of each method's last job."""
        form = "--format=%i %T %k"
        listed = ask("squeue", "--noheader", "--states=all", "--sort=i", form)
        found = re.findall(r"^(\d+) (\w+) \S+-resnet18-([a-z]+)\S*$", listed, re.M)
        return {method: (job, state) for job, state, method in found}

    def job(self, method: str) -> str:
        return self.jobs()[method][0]

    def states(self) -> dict[str, str]:
        return {method: state for method, (_, state) in self.jobs().items()}

    def epochs(self, method: str) -> int:
        """How many epochs of a method are trained."""
        project = Project(self.checkout.folder)
        logs = project.events("").parent.glob(f"*-{method}-*.jsonl")
        events = [event for path in logs for event in Events.read(project.events(path.stem))]
        return max((event.get("done", 0) for event in events), default=0)

    def training(self) -> list[str]:
        """The methods that train and have trained an epoch."""
        running = [method for method, state in self.states().items() if state == "RUNNING"]
        return [method for method in running if self.epochs(method)]

    def log(self, method: str) -> str:
        """What the training of a method has printed."""
        (path,) = (self.checkout.folder / "logs/train").glob(f"*-{method}-*.log")
        return path.read_text()

    def process(self, method: str) -> psutil.Process:
        """The training of a method."""
        trainings = [process for kind, process in jobs(self.checkout) if kind == "imcl train"]
        return next(p for p in trainings if any(f"-{method}-" in word for word in p.cmdline()))

    def wait(self, what: str, happens: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not happens():
            assert time.monotonic() < end, f"{what}: it has not happened; {self.jobs()}"
            assert self.engine.poll() is None, self.engine.communicate()
            time.sleep(0.3)
        self.say(what)


def test_whatever_becomes_of_its_jobs_a_study_has_the_same_results_as_here(run, here):
    print()
    params = run.checkout.folder / "params.yaml"
    submitted = params.read_bytes()
    node = ask("hostname", "--short").strip()

    run.wait("two jobs train", lambda: len(run.training()) == 2)
    cancelled, requeued = run.training()
    (late,) = (method for method, state in run.states().items() if state == "PENDING")

    params.write_text("studies: [half an edit")
    run.say("params.yaml is edited while jobs wait")

    ask("scontrol", "update", f"NodeName={node}", "State=drain", "Reason=test")
    job = run.job(cancelled)
    ask("scancel", job)
    again = run.job(requeued)
    ask("scontrol", "requeue", again)
    run.say(f"{node} is drained, job {job} ({cancelled}) cancelled, {again} ({requeued}) requeued")
    run.wait(f"{node} is empty", lambda: "drained" in ask("sinfo", "--noheader", "--format=%T"))
    assert not {"RUNNING", "COMPLETING"} & {*run.states().values()}
    run.wait("the cancelled job is submitted again", lambda: run.job(cancelled) != job)

    ask("scontrol", "update", f"NodeName={node}", "State=resume")
    # SLURM starts a requeued job after two minutes only.
    ask("scontrol", "update", f"JobId={again}", "StartTime=now")
    run.say(f"{node} is resumed")
    run.wait("the job that waited trains", lambda: late in run.training())
    job, process = run.job(late), run.process(late)
    # SLURM looks at the time twice a minute. What it tells to stop, it also wakes.
    process.suspend()
    ask("scontrol", "update", f"JobId={job}", "TimeLimit=2")
    run.say(f"job {job} ({late}) is slow, and has two minutes")
    run.wait("SIGTERM, 300 s before its time is up, ends it", lambda: not process.is_running())
    assert "SIGTERM: stopping after this step, with a checkpoint" in run.log(late)
    run.wait("it is submitted again", lambda: run.job(late) != job)

    output, _ = run.engine.communicate(timeout=PATIENCE_S)
    assert run.engine.returncode == 0, output[-6000:]
    run.say("the study is done")
    assert "rule_train_seed/" in output
    assert "rule_train/" in output
    assert "Restarts=1" in ask("scontrol", "show", "job", again)
    params.write_bytes(submitted)
    here.run("snakemake", "--workflow-profile", "workflow/profiles/default", "records")
    names = here.records()
    assert run.checkout.records().keys() == names.keys()
    for name in names:
        mine, theirs = (
            json.loads((checkout.folder / "results/records" / name).read_text())
            for checkout in (here, run.checkout)
        )
        assert without_times(mine) == without_times(theirs), name
        assert theirs["params_sha256"] == [sha256(params)]
        resumed = sum(cost["resumed"] for cost in theirs["cost"])
        run.say(f"{name} is the same to the bit; resumed from a checkpoint: {resumed}")
        assert resumed == 1


def test_a_study_that_needs_a_gpu_asks_for_one(run):
    checkout = run.checkout
    checkout.change(studies__micro__device="gpu")
    for path in (checkout.folder / "results/records").glob("*"):
        path.unlink()
    output = checkout.run(*COMMAND, "--retries", "0", code=1)
    assert "--gres=gpu:1" in output  # which this SLURM refuses
    assert "Invalid generic resource" in output


def test_a_slurm_that_is_not_there_is_told_in_a_sentence(here, tmp_path):
    for name in ("bash", "git", "sh", "which"):
        (tmp_path / name).symlink_to(shutil.which(name))
    path = os.pathsep.join([str(Path(sys.executable).parent), str(tmp_path)])
    output = here.run(*COMMAND, "--forceall", code=1, PATH=path)
    assert "no SLURM on this machine (there is no sbatch): start Snakemake where" in output
    assert "Traceback" not in output
