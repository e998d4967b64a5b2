"""What the webdataset library finds in tar shards."""

import gc
import warnings
from collections.abc import Iterable
from pathlib import Path

import webdataset


def keys_of(tars: Iterable[Path]) -> list[str]:
    """The key of each sample that has an image and its row, sorted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the files to the collector
        dataset = webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False)
        keys = sorted(sample["__key__"] for sample in dataset if sample["jpg"] and sample["json"])
        del dataset
        gc.collect()
    return keys
