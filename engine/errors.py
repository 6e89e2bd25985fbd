"""Every error that a user can cause or meet: one hierarchy, one line a message, with the file, key or value in it.

The command line prints the message of a `CamshaftError` without a traceback; any other exception is a bug.
"""


class CamshaftError(Exception):
    """What went wrong, where, and what would be right, in one line (or one line a problem)."""

    exit_code = 1


class RecipeError(CamshaftError):
    """A recipe that can't be run: unknown key, wrong value, unknown stage, cycle."""

    exit_code = 2


class DataError(CamshaftError):
    """A data set that is not what the recipe says: a missing image, mask or tag, an id outside its folder."""


class ImageError(DataError):
    """An image or mask that can't be decoded, or whose size is wrong."""


class StoreError(CamshaftError):
    """A map store, mask folder or checkpoint that is truncated, altered or from another run."""


class WeightsError(CamshaftError):
    """Weights that are missing, unreadable or of other shapes than the network's."""


class TrainingError(CamshaftError):
    """A training that can't go on: a loss that is not finite, no images left to train on."""


class RankLostError(CamshaftError):
    """Another rank ended alone, was killed, or hangs; says which one."""


class DiskFullError(CamshaftError):
    """No space left while writing; nothing half-written was left behind under a final name."""


class Stopped(CamshaftError):  # noqa: N818 - not an error: the run was asked to stop and saved its place
    """SIGTERM or SIGINT was received and the place was saved; the same command goes on from there."""

    exit_code = 143
