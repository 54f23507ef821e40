from __future__ import annotations

import json
from pathlib import Path

from data_prep.sources.recipes import _FILE, SOURCE


def test_recipes_read_as_ingredients_and_steps(write, read, tmp_path: Path) -> None:
    stew = {
        "title": "Bean Stew",
        "category": "Stews",
        "ingredients": ["1 can () beans", "", "1 cup (250 ml/) water"],
        "steps": ["Heat the water in a pot.", None, "Add the beans and cook."],
    }
    recipes = {"a": stew, "b": {**stew, "steps": []}, "c": {"title": "Air"}, "d": {**stew, "title": ""}}
    write(_FILE, json.dumps(recipes))
    records, drops = read(SOURCE, root=tmp_path)
    (record,) = records["recipe"]
    assert record.queries[0].content.parts[0].text == "Bean Stew"
    assert record.positives[0].content.parts[0].text == (
        "Ingredients: 1 can beans; 1 cup (250 ml) water. Heat the water in a pot. Add the beans and cook."
    )
    assert (record.concept, record.extra) == ("bean stew", {"category": "Stews"})
    assert drops == {"short recipe": 2, "without title": 1}
