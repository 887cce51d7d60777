"""Every error this system raises on purpose, on one page.

RecsysError
├── DataError      input rows, files or arguments that cannot be used
├── ConfigError    a setting, policy or configuration that makes no sense
├── ReleaseError   a release that is missing, damaged or made for other features
├── Contended      others kept writing in between: what was asked may be asked again
└── NotReady       nothing has been published yet

A message says what was found, what was expected and what to do. The tree lives in the lowest
room so that every room may raise from it.
"""


class RecsysError(Exception):
    """Anything this system refuses on purpose."""


class DataError(RecsysError, ValueError):
    """Input that cannot be used as it is; pydantic's validators may raise it, as a ValueError."""


class ConfigError(RecsysError):
    """A setting or configuration that makes no sense."""


class ReleaseError(RecsysError):
    """A release that is missing, damaged, or does not fit the running code."""


class Contended(RecsysError):  # noqa: N818  it is a state, not a fault
    """A step was taken again and again, and each time others wrote first."""


class NotReady(RecsysError):  # noqa: N818  it is a state, not a fault
    """Nothing can be served yet, because no release has been published."""
