"""The pairs of training_world as a real store on disk, for the tests of reading ahead."""

from __future__ import annotations

import zarr

from downscale.pairs.store import PairGroup, create_array, create_group

SHARD = (7, 14)
"""Days a chunk and a shard."""


def write_store(path, store, *, shard=SHARD):
    """Write the groups of a FakeStore; the same groups as PairGroups that read from disk."""
    root = zarr.open_group(path, mode="w", zarr_format=3)
    groups = {}
    for name, fake in store.groups.items():
        node = create_group(root, name, fake.days, fake.calendar)
        arrays = {"predictors_rcmu": fake.arrays["perfect"], "predictors_gcm": fake.arrays["imperfect"], "scalars": fake.arrays["scalars"]}
        arrays |= {f"target_{target}": fake.arrays["target"][:, i] for i, target in enumerate(store.targets)}
        arrays |= {"surface_rcmu": fake.arrays["surface"], "surface_gcm": fake.arrays["surface"]}
        for array, values in arrays.items():
            create_array(node, array, values.shape, days=shard, attributes={})[:] = values
        usable = node["usable"][:]
        attributes = {"digest": "1", "notes": []}
        groups[name] = PairGroup(
            name, fake.calendar, fake.days, usable, fake.kinds, tuple(store.targets), attributes, node, dict(fake.splits)
        )
    store.groups, store.path = groups, path
    return store
