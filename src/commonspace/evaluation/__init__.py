"""Tasks, metrics, baselines and reports: what a model can do, each figure with its pool and its interval."""
