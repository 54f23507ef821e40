"""Our models in mteb, mteb's benchmarks as a command, and our held-out suite as mteb tasks.

mteb and datasets are extras (`pip install -e '.[rivals]'`): they are imported inside functions, never at the top.
"""
