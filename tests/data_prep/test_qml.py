from __future__ import annotations

from data_prep.qml import qml_objects, qml_properties

_BOARD = r"""
QtObject {
   property string instruction: qsTr("A \"quoted\" name - 1889")
   property string plain: "x"
   property var levels: [
      { "pixmapfile" : "image/bg.svg", "type" : "SHAPE", "width": 702, "height": 515.5 },
      { "audio": GCompris.ApplicationInfo.getAudioFilePath("qrc:/a/b.$CA"), "x" : "0.226", "y": -0.1,
        "text": qsTr("The cow goes 'moo'.") }
   ]
}
"""


def test_objects_and_properties_are_read() -> None:
    first, second = qml_objects(_BOARD)
    assert first == {"pixmapfile": "image/bg.svg", "type": "SHAPE", "width": "702", "height": "515.5"}
    assert second == {"audio": "qrc:/a/b.$CA", "x": "0.226", "y": "-0.1", "text": "The cow goes 'moo'."}
    assert qml_properties(_BOARD) == {"instruction": 'A "quoted" name - 1889', "plain": "x"}


def test_text_that_is_no_board_holds_nothing() -> None:
    assert qml_objects("{ broken : ") == []
    assert qml_properties('property string a: qsTr("never closed') == {}
