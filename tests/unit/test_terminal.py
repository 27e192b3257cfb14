"""What is printed fits the terminal, and into a pipe it is whole."""

import io
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from handmade import ROOT

from imcl import terminal
from imcl.cli import main, program


@pytest.fixture
def narrow(monkeypatch):
    """The lines of a captured output; each has to fit into 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def lines(text: str) -> list[str]:
        found = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
        assert [line for line in found if len(line) > 80] == []
        return found

    return lines


# help -------------------------------------------------------------------------------------------


HELPS = {parser.prog: parser for parser in program.parsers(program.parser())}


@pytest.mark.parametrize("name", HELPS)
def test_every_help_fits_and_ends_with_an_example_that_is_right(name, narrow, capsys):
    _, *command = name.split()
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    lines = narrow(capsys.readouterr().out)
    assert lines[0].startswith(f"usage: {name} ")
    examples = [line.strip() for line in lines if line.strip().startswith("example: ")]
    if command:
        assert lines[-1:] == examples
        assert examples[0].startswith(f"example: {name}")
    else:
        assert len(examples) == len(program.GROUPS)
    for example in examples:
        _, imcl, *arguments = shlex.split(example)
        assert imcl == "imcl"
        program.parser().parse_args(arguments)


def test_every_command_is_in_one_group_of_the_help():
    grouped = [name for _, names in program.GROUPS.values() for name in names]
    commands = {name.split()[1] for name in HELPS if " " in name}
    assert sorted(grouped) == sorted(commands)


def test_a_wrong_command_line_fits(narrow, capsys):
    with pytest.raises(SystemExit):
        main(["nope"])
    assert "'claims'" in " ".join(narrow(capsys.readouterr().err))


COMPLETION = """
source "$1"
for words in "imcl cl" "imcl claims --comm" "imcl train --device c" "imcl plan --params $2/para"; do
    COMP_WORDS=($words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    _shtab_imcl
    echo "${COMPREPLY[@]}"
done
"""


def test_a_shell_completes_commands_options_choices_and_files(tmp_path, capsys):
    script = tmp_path / "imcl.bash"
    assert main(["completion", "bash"]) == 0
    script.write_text(capsys.readouterr().out)
    command = ["bash", "-c", COMPLETION, "bash", str(script), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    params = f"{ROOT}/params.yaml"
    assert done.stdout.splitlines() == ["claims", "--committed", "cpu cuda", params]


# what commands print ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> Path:
    """A project with two committed studies and the measurements; `quick` is summarised."""
    folder = tmp_path_factory.mktemp("committed")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "paper/templates").parent.mkdir()
    (folder / "paper/templates").symlink_to(ROOT / "paper/templates")
    for name in ("quick", "cpu", "bench"):
        shutil.copytree(ROOT / "paper/results" / name, folder / "paper/results" / name)
    for command in ("summary", "claims --save"):
        assert main([*command.split(), "--committed", f"--project={folder}"]) == 0
    return folder


PLACE = "accuracy-digits:vgg16/all:clean"


@pytest.mark.parametrize(
    "command",
    [
        *("plan --study cpu", "status --study cpu", "settings --study cpu", "data"),
        *("plan --budget --rate 23800 --study paper", "claims", "claims -v", "tables --all"),
        *(f"trace --study quick {PLACE}", f"trace -v --study quick {PLACE}", "bench tables"),
        *("verify", "merge paper/results/quick", "plan --study nope", "summary --study gpu"),
    ],
)
def test_what_a_command_prints_fits(committed, command, narrow, monkeypatch, capsys):
    monkeypatch.chdir(committed)
    assert main(command.split()) in (0, 1, 2)
    captured = capsys.readouterr()
    lines = narrow(captured.out) + narrow(captured.err)
    assert len(lines) > 0


def test_a_sentence_is_wrapped_at_spaces_and_a_path_stays_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    path = "results/records/digits-clean.json"
    assert terminal.fitted(f"{path}: is missing; run it\n  a well-known line of words") == (
        f"{path}:\n  is missing; run it\n  a well-known line\n    of words"
    )


def test_a_pipe_has_no_width_and_a_terminal_has_its_own(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal.width(io.StringIO()) is None
    master, slave = os.openpty()
    with open(slave, "w") as file:
        import termios

        termios.tcsetwinsize(slave, (24, 97))
        assert terminal.width(file) == 97
        monkeypatch.setenv("COLUMNS", "61")
        assert terminal.width(file) == terminal.width(io.StringIO()) == 61
    os.close(master)


def test_a_row_of_a_table_is_a_line_in_a_pipe_and_numbers_are_aligned(monkeypatch, capsys):
    from rich.text import Text

    rows = [["a", Text("9", "red"), "word " * 40], ["b" * 90, "10", ""]]
    monkeypatch.delenv("COLUMNS", raising=False)
    terminal.table(["name", "count", "note"], rows, right=["count"])
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.index("9") == second.index("0") > 90
    assert first.endswith("word word")
    monkeypatch.setenv("COLUMNS", "40")
    terminal.table(["name", "count", "note"], rows, right=["count"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert sum(line.count("word") for line in lines) == 40
    assert sum(line.count("b") for line in lines) == 90
