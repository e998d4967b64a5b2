"""What can go wrong, as one tree.

DownloaderError           one clear sentence for a person; scripts print it and exit 1
├── ConfigError           a setting is missing, unknown or contradicts another
├── InputError            the list of URLs cannot be read as it is
├── FolderError           the output folder holds something that this run must not mix with
│   └── UnreadableError   a small file there is empty or damaged
├── LockError             another run works in the output folder, or has taken it over
├── NetworkError          this machine reaches nobody
├── StorageError          the disk does not take what is written (full, quota, read-only)
├── LauncherError         the ranks that started are not the ranks that were asked for
├── ToolError             a tool could not do what it was asked for
├── LedgerError           the files do not account for every input row
├── DamageError           stored files are gone or changed; what they held is to be fetched again
└── PolitenessError       a server was asked for more than its budget

A request that fails is none of these: it is a value, `records.Failed`.
"""


class DownloaderError(Exception):
    """The base: its text is one sentence with the offending value and the way out."""


class ConfigError(DownloaderError):
    """A setting is missing, unknown or contradicts another."""


class InputError(DownloaderError):
    """The list of URLs cannot be read as it is."""


class FolderError(DownloaderError):
    """The output folder holds something that this run must not be mixed with."""


class UnreadableError(FolderError, ValueError):
    """A small file of the output folder is empty or damaged; to who parses it, a ValueError."""


class LockError(DownloaderError):
    """Another run works in the output folder, or has taken it over."""


class NetworkError(DownloaderError):
    """This machine reaches none of the servers, and it is not theirs to be blamed."""


class StorageError(DownloaderError):
    """The disk does not take what is written."""


class LauncherError(DownloaderError):
    """The ranks that started are not the ranks that were asked for."""


class ToolError(DownloaderError):
    """A tool could not do what it was asked for, or not for all partitions."""


class LedgerError(DownloaderError):
    """The files do not account for every input row exactly once."""


class DamageError(DownloaderError):
    """Stored files are gone, or not what was written; what they held is to be fetched again."""


class PolitenessError(DownloaderError):
    """A server was asked for more than its budget: a fault of ours, and no way to hide it."""
