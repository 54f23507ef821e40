"""From public packages to shards: fetch, unpack, read, split by concept, write, report."""
