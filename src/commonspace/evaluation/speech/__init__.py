"""Speech against a cascade through a transcript, in one language and across languages: the paper's Table 3 in house."""
