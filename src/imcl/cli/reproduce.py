"""`imcl reproduce`: everything from the parameters to the paper, through Snakemake."""

import argparse
import os
import subprocess
import sys
import time

from imcl import terminal
from imcl.cli.commands import Commands, Parents, command, settings, with_study
from imcl.errors import ImclError, Stopped, printable
from imcl.files import at_once, read_bytes
from imcl.project import VARIABLE, Project

POLL_SECONDS = 0.5
PROFILE = "workflow/profiles/default"
TAIL = 12  # lines of Snakemake's log that are shown if it failed


def register(commands: "Commands[argparse.ArgumentParser]", parents: Parents) -> None:
    """Add the command."""
    summary = "Train a study with Snakemake, and make its tables, figures, paper and report."
    reproduce = command(commands, parents, "reproduce", _reproduce, summary, "reproduce")
    with_study(reproduce)
    reproduce.add_argument(
        "--committed",
        action="store_true",
        help="train nothing: make the documents from the committed records",
    )


def _reproduce(arguments: argparse.Namespace) -> None:
    from imcl.records.follow import Follower
    from imcl.study import grid

    project, loaded = arguments.project, settings(arguments)
    cells = [] if arguments.committed else grid.cells(loaded)
    log = project.logs / "snakemake.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb", opener=at_once) as file, Follower(project, cells) as follower:
        todo = f"{len(follower.missing)} of {len(cells)} cells to train"
        todo = todo if cells else "documents from committed records"
        terminal.tell(f"study {loaded.study}: {todo}; Snakemake's log is {log}")
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", PROFILE]
        command += ["--config", f"study={loaded.study}"]
        command += ["records=committed"] if arguments.committed else []
        named = {VARIABLE: str(project.file.resolve())} if project.file else {}
        engine = subprocess.Popen(
            command,
            cwd=project.root,
            env={**os.environ, **named},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            while engine.poll() is None:
                time.sleep(POLL_SECONDS)
                follower.update()
        except Stopped as stopped:  # Ctrl-C reaches Snakemake without us
            engine.send_signal(stopped.number)
            raise
        finally:
            engine.wait()
        follower.update()
    if engine.returncode:
        end = read_bytes(log).decode(errors="replace").splitlines()[-TAIL:]
        terminal.tell("\n".join(map(printable, end)))
        failed = ", ".join(follower.failed())
        at = f" at {failed}" if failed else ""
        raise ImclError(f"Snakemake failed{at}; {log} says why, and what is done stays done")
    _show(project, arguments.committed)


def _show(project: Project, committed: bool) -> None:
    """Print the verdict on the claims, and where everything is."""
    from imcl.analysis import claims
    from imcl.present import shown
    from imcl.present.pdf import HINT, can_build

    print()
    shown.claims(claims.read(project, committed))
    print()
    build = project.build
    for path in sorted(build.glob("tables/accuracy-*.md")):
        print(f"table    {path}")
    print(f"figures  {build / 'figures'}")
    print(f"report   {build / 'report.html'}")
    terminal.tell(f"paper    {build / 'paper.pdf' if can_build() else HINT}")
