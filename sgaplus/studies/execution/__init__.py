"""The execution of studies: shards of jobs on any `concurrent.futures.Executor`, here or on a cluster."""
