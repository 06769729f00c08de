"""Tar archives that are the same bytes for the same content: entries sorted, one time, modes of two kinds, owners by number."""

import gzip
import io
import os
import tarfile
from pathlib import Path


class Tarball:
    """Gathers entries and writes them. Folders above an entry are made with it, owned by root."""

    def __init__(self, time):
        self.time = time
        self.entries = {}

    def folder(self, source, to, owner=(0, 0), without=()):
        """What lies in `source` comes below `to`, but for files whose names end as `without` says. Of the modes only that a file can be
        executed is kept; links stay links."""
        source = Path(source)
        if not source.is_dir():
            raise FileNotFoundError(f"{source} is not there")
        for root, folders, files in os.walk(source):
            below = os.path.relpath(root, source)
            for name in folders + [file for file in files if not file.endswith(tuple(without))]:
                self.path(Path(root) / name, os.path.normpath(os.path.join(to, below, name)), owner, deep=False)

    def path(self, source, to, owner=(0, 0), deep=True):
        """One file, link or, if `deep`, folder with what lies in it."""
        source = Path(source)
        name = to.strip("/")
        entry = tarfile.TarInfo(name)
        if source.is_symlink():
            entry.type, entry.linkname, entry.mode, content = tarfile.SYMTYPE, os.readlink(source), 0o777, None
        elif source.is_dir():
            entry.type, entry.mode, content = tarfile.DIRTYPE, 0o755, None
            if deep:
                self.folder(source, to, owner)
        else:
            entry.size = source.stat().st_size
            entry.mode, content = (0o755 if source.stat().st_mode & 0o100 else 0o644), source
        self._add(entry, owner, content)

    def text(self, name, content, mode=0o644):
        """A file of the given bytes or text."""
        content = content.encode() if isinstance(content, str) else content
        entry = tarfile.TarInfo(name.strip("/"))
        entry.size, entry.mode = len(content), mode
        self._add(entry, (0, 0), content)

    def _add(self, entry, owner, content):
        for above in list(Path(entry.name).parents)[:-1]:
            if str(above) not in self.entries:
                folder = tarfile.TarInfo(str(above))
                folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, self.time
                self.entries[str(above)] = (folder, None)
        entry.uid, entry.gid = owner
        entry.mtime = self.time
        self.entries[entry.name] = (entry, content)

    def write(self, out):
        """Writes the archive to the open file `out`."""
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
            for name in sorted(self.entries):
                entry, content = self.entries[name]
                if isinstance(content, Path):
                    with content.open("rb") as file:
                        archive.addfile(entry, file)
                else:
                    archive.addfile(entry, None if content is None else io.BytesIO(content))


def compressed(out):
    """A gzip stream into the open file `out`, without name or time in its header."""
    return gzip.GzipFile(filename="", mode="wb", fileobj=out, compresslevel=9, mtime=0)
