"""What the sections of a report say above their tables, and the sentence on a difference."""

from __future__ import annotations

from commonspace.evaluation.comparison import Compared

EVERY_QUERY = (
    "Tasks whose concepts hold several queries (a page's paragraphs, a module's functions, a thing in many languages); "
    "intervals resample concepts, not queries.\n\n"
)
SOUPS = (
    "The best ingredient is the one that dev puts first. Mean MRR@10 of a task's directions over queries without "
    "near-duplicates in training, query by query; p values are adjusted by Holm over a soup's tasks. A soup of one "
    "model alone is that model, and stands in no line.\n\n"
)
COMPOSED_QUERIES = (
    "An image and a word together ask for one thing: a stamp and a language's name for its caption in that language, "
    "an emoji's drawing and a language's name for its name in that language, a food and a kind of name for that name. "
    "`late_fusion_sum` adds the parts' vectors, `late_fusion_mlp` reads both parts' features at once; both were "
    "trained on the composed rows. Food comes from no training source. All relations of a concept count, intervals "
    "resample concepts, and p values are adjusted by Holm over these tasks.\n\n"
)
QUANTISED = (
    "Share of float32's NDCG@10 at full size, queries in float32: int8 items, signs alone, and the first so many by "
    "sign (@) put in order by float32 or int8; a pool of so few is put in order whole.\n\n"
)
LANGUAGES = "Each language is a pool of its own: voices and scripts cannot give an answer away.\n\n"
GEOMETRY = (
    "Texts without prefixes, so that each is one point. Gap: distance of two modalities' centroids (0 to 2). "
    "Uniformity: log mean exp(-2 d^2) over pairs, 0 for one point, near -4 on a sphere. Effective rank: directions in "
    "use, at most the size. Alignment: mean squared distance of a pair, 2 is unrelated. Hubness: skewness of how often "
    "an item is among the ten nearest. Mixed: targets of all tasks and modalities in one pool, and how often the first "
    "place goes to another modality than the target's. Asymmetry: MRR one way less the other way, each in its own "
    "pool.\n\n"
)
PRIMARY_MEASURE = (
    "Mean MRR@10 of both directions, one query a concept, queries without near-duplicates in training, full "
    "gallery, against late fusion (frozen encoders and small heads on the same rows, tuned on dev, several seeds). "
    "Intervals resample concepts and the baseline's seeds; p values are adjusted by Holm over image-text and "
    "speech-text; `detectable` is the smallest true difference found with 80% power. R@1 beside it.\n\n"
)


def verdict(one: Compared) -> str:
    """A line: whether the interval of a difference leaves out 0, and on which side."""
    gap = one.difference
    place = "above" if gap.low > 0 else "below" if gap.high < 0 else "not told apart from"
    return (
        f"- {one.model} is {place} {one.baseline} on {one.task}: {gap.value:+.3f} "
        f"[{gap.low:+.3f}, {gap.high:+.3f}], {gap.queries} queries of {gap.units} concepts.\n"
    )
