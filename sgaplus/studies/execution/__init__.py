"""The execution of studies: shards of jobs, here or on a cluster."""
