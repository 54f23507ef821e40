"""Published data sets, as they lie on a disk or on the hub, to our shards."""
