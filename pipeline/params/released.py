"""Files as their authors publish them, by path or hub name."""

from pipeline.params.base import Group, Sha256


class ReleasedFile(Group):
    """Weights as their authors publish them; converted once."""

    location: str  # a file or folder of this machine, or hf:OWNER/NAME
    file: str | None  # inside the folder or repository
    revision: str | None  # of the repository: a commit, so that it stays the same
    sha256: Sha256 | None  # null: any file; what was found is recorded


class KnownFile(ReleasedFile):
    """A released file that decides what numbers mean: it must be the one that is named."""

    sha256: Sha256


class ReleasedFolder(Group):
    location: str
    revision: str | None
