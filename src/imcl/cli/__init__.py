"""The command line: `imcl COMMAND`, or `python -m imcl COMMAND`."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 for wrong usage, 1 for a failure.

    Where a signal ended it: 128 plus the signal's number.
    """
    try:
        # Takes a moment, in which Ctrl-C is to end in one line as well.
        from imcl.cli import program

        return program.run(argv)
    except ModuleNotFoundError as error:
        package = (error.name or "imcl").split(".")[0]
        if package == "imcl":
            raise
        message = f"the commands need more packages than the library, and {package} is missing"
        print(f"imcl: {message}; run pip install 'imcl[pipeline]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("imcl: interrupted", file=sys.stderr)
        return 130
