"""The paper's tables on the held-out suite, made of result rows that lie on disk."""
