"""Pairs that a language model writes: templates, back ends, a cache of what was paid for, a rater and a bill."""
