"""A copy of the parameters, which jobs read while params.yaml may be edited."""

import hashlib
from dataclasses import replace
from typing import NamedTuple

from imcl.files import read_bytes, write_bytes
from imcl.project import Project


class Snapshot(NamedTuple):
    """What the parameters' file of a project holds, and the project that reads a copy of it."""

    content: bytes
    project: Project

    @classmethod
    def of(cls, project: Project) -> "Snapshot":
        """The parameters as they are now.

        Raises:
            OSError: the file cannot be read.
        """
        return cls.holding(project, read_bytes(project.params))

    @classmethod
    def holding(cls, project: Project, content: bytes) -> "Snapshot":
        """Parameters that are in no file yet."""
        path = project.snapshot(hashlib.sha256(content).hexdigest())
        return cls(content, replace(project, file=path))

    def write(self) -> Project:
        """Write the copy, unless it is there; return the project that reads it.

        Raises:
            ImclError: the disk is full.
        """
        path = self.project.params
        if not path.exists() or read_bytes(path) != self.content:
            write_bytes(path, self.content)
        return self.project
