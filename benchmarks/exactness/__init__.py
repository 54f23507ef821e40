"""Is a trainer exact? Gather, caching and resume checks that can be pointed at any; see docs/objectives.md.

python -m benchmarks.exactness                                  # the three subjects here, as a table
python -m benchmarks.exactness --subject my_trainer:SUBJECT     # another, by module and name
"""
