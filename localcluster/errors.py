"""The one error a user of the driver sees: a sentence with what failed, why and what to do next."""


class ClusterError(Exception):
    """Something the driver cannot do; its text is printed as it is, without a traceback."""
