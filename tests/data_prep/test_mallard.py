from __future__ import annotations

import pytest

from commonspace.errors import DataError
from data_prep.mallard import Block, read_page

PAGE = """<page xmlns="http://projectmallard.org/1.0/" xmlns:if="http://projectmallard.org/if/1.0/" id="x">
<info><title type="link">Sorted elsewhere</title><desc>Find   <app>files</app>.</desc></info>
<title>Search for files</title>
<p>Open the
   <app>Files</app> application.</p>
<links type="topic"><title>Others</title></links>
<figure><title>The window</title><desc>A window.</desc><media type="image" src="figures/window.png"/></figure>
<section id="more"><title>More ways</title>
  <steps><title>Steps</title>
    <item><p>Click <media type="image" src="figures/find.svg"/> to search.</p></item>
    <item><p><media type="image" src="figures/alone.svg"/></p><p>This icon means trouble.</p></item>
  </steps>
  <if:choose><if:when test="platform:one"><p>First desktop.</p></if:when><if:else><p>Second.</p></if:else></if:choose>
  <comment><p>Not for readers.</p></comment>
  <media type="video" src="figures/clip.webm"/>
</section></page>"""


def test_blocks_come_in_reading_order(tmp_path):
    (tmp_path / "files-search.page").write_text(PAGE)
    page = read_page(tmp_path / "files-search.page")
    assert (page.name, page.title, page.description) == ("files-search", "Search for files", "Find files.")
    assert page.blocks == (
        Block("Open the Files application.", "Search for files"),
        Block("The window", "Search for files", "figures/window.png"),
        Block("Click to search.", "More ways"),
        Block("", "More ways", "figures/find.svg", alone=False),
        Block("", "More ways", "figures/alone.svg"),
        Block("This icon means trouble.", "More ways"),
        Block("First desktop.", "More ways"),
    )
    assert page.paragraphs == [
        "Search for files",
        "Find files.",
        "Open the Files application.",
        "Click to search.",
        "This icon means trouble.",
        "First desktop.",
    ]


def test_a_page_that_is_not_xml_is_named(tmp_path):
    (tmp_path / "broken.page").write_text("<page><title>")
    with pytest.raises(DataError, match=r"broken\.page"):
        read_page(tmp_path / "broken.page")
