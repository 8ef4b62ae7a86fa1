"""How a step ends badly: an exit code that the operator understands and one sentence for a person.

The sentence becomes the container's termination message. Must never carry a credential or a traceback.
"""

from perennial.domain.training.failure import EXIT_CONFIG, EXIT_DATA, EXIT_TEMPORARY, EXIT_USAGE


class StepError(Exception):
    """Root: `code` is the exit code (sysexits.h), the text one sentence."""

    code = 70


class UsageProblem(StepError):
    """The step was called wrongly: a bug of the operator, or an image of another version."""

    code = EXIT_USAGE


class DataProblem(StepError):
    """The data is missing or not what it must be; trying again would end the same way."""

    code = EXIT_DATA


class TemporaryProblem(StepError):
    """The store or another pod did not answer; the next attempt may succeed."""

    code = EXIT_TEMPORARY


class ConfigProblem(StepError):
    """A URI, a credential or a right is wrong; a person must change it."""

    code = EXIT_CONFIG
