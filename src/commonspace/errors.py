"""Errors a user can act on: each message names the file or sample, what was wrong, and what to do."""


class CommonspaceError(Exception):
    """Base of every error this project raises on purpose."""


class ContentError(CommonspaceError):
    """A part of a content cannot be read or is beyond a limit."""


class ConfigError(CommonspaceError):
    """An option is unknown, has no effect, or contradicts another one."""


class DataError(CommonspaceError):
    """A source, an archive, a shard or a cache is missing, changed or broken."""


class WeightsError(CommonspaceError):
    """Weights are missing, have the wrong hash, or do not fit the model."""


class StorageError(CommonspaceError):
    """Storage cannot be reached: no fault of a sample, so nothing is skipped and the run stops."""
