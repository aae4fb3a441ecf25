"""What can be wrong with a data set's files."""


class DatasetError(RuntimeError):
    """A data set cannot be had."""


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """A file is not where it belongs; the message says where that is and how to get it."""


class DatasetCorruptError(DatasetError, ValueError):
    """A file is truncated or damaged, or not what it should be."""
