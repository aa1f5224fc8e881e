"""What is read (files, folders, arrays), what suits it (scaling, likelihood) and how it is fed (batches)."""

from gapless.data.dataset import Dataset, Items
from gapless.data.disk import OnDisk
from gapless.data.feed import Feed, batch
from gapless.data.inspection import Inspection
from gapless.data.readers import BUILT_IN, Everything, factors_of, read, read_items
from gapless.data.scaling import Scaling
from gapless.data.shards import verify_shards
from gapless.data.writing import write_shards

__all__ = [
    "BUILT_IN",
    "Dataset",
    "Everything",
    "Feed",
    "Inspection",
    "Items",
    "OnDisk",
    "Scaling",
    "batch",
    "factors_of",
    "read",
    "read_items",
    "verify_shards",
    "write_shards",
]
