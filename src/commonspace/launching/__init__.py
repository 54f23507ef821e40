"""Commands as jobs of a SLURM cluster, run from a snapshot of code and configs."""
