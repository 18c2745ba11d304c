"""One training on several devices: a process for each, in torch's DistributedDataParallel."""
