"""The real `google-genai` client on a real server gets our vectors: parts in, one vector out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from google import genai
from google.genai import errors, types

from commonspace import Audio, Content, Document, Embedder, Image, Pdf, Text, Video
from tests.media import numbered_frames, pdf_bytes, pdf_page, picture_bytes, sound_bytes, tone, video_bytes
from tests.serving.http.conftest import Served

PICTURE = picture_bytes(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
SOUND = sound_bytes(tone(0.4))
CLIP = video_bytes(numbered_frames(8, 56, 56), fps=4, sound=tone(2.0, 48_000))
PAGES = pdf_bytes([pdf_page("fox", 0.8)])


@pytest.fixture(scope="module")
def client(served: Served) -> genai.Client:
    return genai.Client(api_key="any", http_options=types.HttpOptions(base_url=served.url))


def values(answer: types.EmbedContentResponse) -> np.ndarray:
    return np.array([one.values for one in answer.embeddings])


def same(answer: types.EmbedContentResponse, model: Embedder, contents: Sequence[Content], **options: Any) -> None:
    np.testing.assert_allclose(values(answer), model.embed(contents, **options), atol=1e-5)


def test_texts_to_vectors(client: genai.Client, served: Served) -> None:
    same(client.models.embed_content(model="fox", contents="a red fox"), served.model, [Content("a red fox")])
    answer = client.models.embed_content(model="fox", contents=["a red fox", "a bird"])
    same(answer, served.model, [Content("a red fox"), Content("a bird")])
    assert answer.usage_metadata.prompt_token_count == sum(
        served.model.processor(Content(text)).tokens for text in ("a red fox", "a bird")
    )


def test_a_plain_list_of_parts_is_one_content_of_a_model_called_gemini(client: genai.Client, served: Served) -> None:
    parts = ["before", types.Part.from_bytes(data=PICTURE, mime_type="image/png"), "after"]
    expected = Content("before", Image(PICTURE), "after")
    same(client.models.embed_content(model="gemini-fox", contents=parts), served.model, [expected])
    apart = client.models.embed_content(model="fox", contents=parts)
    same(apart, served.model, [Content("before"), Content(Image(PICTURE)), Content("after")])


@pytest.mark.parametrize(
    "mime, data, part",
    [
        ("image/png", PICTURE, Image(PICTURE)),
        ("audio/wav", SOUND, Audio(SOUND)),
        ("video/mp4", CLIP, Video(CLIP)),
        ("application/pdf", PAGES, Document(Pdf(PAGES))),
        ("text/plain; charset=utf-8", b"ein Fuchs", Text("ein Fuchs")),
    ],
)
def test_media_are_their_bytes(mime: str, data: bytes, part: Any, client: genai.Client, served: Served) -> None:
    content = types.Content(parts=[types.Part(text="a"), types.Part.from_bytes(data=data, mime_type=mime)])
    same(client.models.embed_content(model="fox", contents=content), served.model, [Content("a", part)])


def test_several_contents_and_a_size(client: genai.Client, served: Served) -> None:
    """The client mixes inline_data with outputDimensionality here."""
    contents = [
        types.Content(parts=[types.Part.from_bytes(data=PICTURE, mime_type="image/png"), types.Part(text="a fox")]),
        types.Content(parts=[types.Part(text="a bird")]),
    ]
    config = types.EmbedContentConfig(output_dimensionality=8)
    answer = client.models.embed_content(model="gemini-fox", contents=contents, config=config)
    same(answer, served.model, [Content(Image(PICTURE), "a fox"), Content("a bird")], dim=8)


@pytest.mark.parametrize(
    "task_type, task, role",
    [
        ("RETRIEVAL_QUERY", "search result", "query"),
        ("RETRIEVAL_DOCUMENT", "search result", "document"),
        ("SEMANTIC_SIMILARITY", "sentence similarity", "query"),
        ("CODE_RETRIEVAL_QUERY", "code retrieval", "query"),
        ("FACT_VERIFICATION", "fact checking", "query"),
    ],
)
def test_task_types_are_our_prefixes(
    task_type: str, task: str, role: str, client: genai.Client, served: Served
) -> None:
    answer = client.models.embed_content(model="fox", contents="a fox", config={"task_type": task_type})
    same(answer, served.model, [Content("a fox")], task=task, role=role)
    assert np.abs(values(answer)[0] - served.model.embed(["a fox"])[0]).max() > 1e-3


def test_a_title_stands_in_the_documents_prefix(client: genai.Client, served: Served) -> None:
    config = {"task_type": "RETRIEVAL_DOCUMENT", "title": "snow"}
    answer = client.models.embed_content(model="fox", contents="a fox", config=config)
    same(answer, served.model, [Content("title: snow | text: a fox")])


def test_one_content_of_embed_content(served: Served) -> None:
    body = {"content": {"parts": [{"text": "a red fox"}]}, "outputDimensionality": 8}
    for version in ("v1", "v1beta"):
        answer = served.post(f"/{version}/models/fox:embedContent", body).json()
        expected_E = served.model.embed(["a red fox"], dim=8)[0]
        np.testing.assert_allclose(answer["embedding"]["values"], expected_E, atol=1e-5)


def one(*parts: Any, **options: Any) -> dict[str, Any]:
    return {"content": {"parts": list(parts)}, **options}


def inline(data: bytes | str, mime: str = "image/png") -> dict[str, Any]:
    return {
        "inlineData": {"mimeType": mime, "data": data if isinstance(data, str) else base64.b64encode(data).decode()}
    }


@pytest.mark.parametrize(
    "body, message",
    [
        ({}, "content: Field required"),
        ({"content": {}}, "content.parts: Field required"),
        (one(), "content: holds no part"),
        (one({}), "content.parts[0]: a part has either text or inlineData"),
        (one({"text": ""}), "content.parts[0]: is an empty text"),
        (one({"text": "a", **inline(PICTURE)}), "a part has either text or inlineData"),
        (one({"fileData": {"fileUri": "https://x.org/a.png"}}), "fileData: no address is fetched"),
        (one({"text": "a"}, {"functionCall": {}}), "content.parts[1].functionCall: Extra inputs"),
        (one(inline("***")), "content.parts[0].inlineData: is no base64"),
        (one(inline(b"no picture")), "content.parts[0].inlineData: "),
        (one(inline(SOUND, "video/mp4")), "content.parts[0].inlineData: "),
        (one(inline(PICTURE, "font/woff")), "'font/woff' is none of image/*"),
        (one(inline(b"\xff\xfe", "text/plain")), "is no UTF-8 text"),
        (one(inline(b"", "text/plain")), "content.parts[0].inlineData: is an empty text"),
        (one(inline(bytes(250_000))), "bytes, at most 200000 are taken"),
        (one({"text": "a"}, taskType="SUMMARY"), "taskType: 'SUMMARY' is none of TASK_TYPE_UNSPECIFIED"),
        (one({"text": "a"}, title="snow"), "title: a title has no effect without taskType RETRIEVAL_DOCUMENT"),
        (one({"text": "a"}, outputDimensionality=64), "outputDimensionality: dim=64 is outside 1..32"),
        (one({"text": "a"}, outputDimensionality=0), "outputDimensionality: dim=0 is outside 1..32"),
        (one({"text": "a"}, outputDimensionality=2.5), "valid integer"),
        (one({"text": "a"}, model="models/hen"), "names the model 'models/hen'"),
        (one(*[{"text": "fox " * 60}] * 3), "at most 128 are taken"),
        (one(*[inline(PICTURE)] * 7), "at most 6"),
        (one(*[{"text": "a"}] * 9000), "content.parts: 9000 parts are sent, at most 8192"),
    ],
)
def test_bad_requests_say_what_is_wrong(body: Any, message: str, served: Served) -> None:
    answer = served.post("/v1beta/models/fox:embedContent", body)
    error = answer.json()["error"]
    assert answer.status_code == error["code"] == 400 and error["status"] == "INVALID_ARGUMENT"
    assert message in error["message"], error["message"]


def test_bad_batches_say_which(served: Served, client: genai.Client) -> None:
    path = "/v1beta/models/fox:batchEmbedContents"
    for requests, message in (
        ([], "requests: holds no content"),
        ([one({"text": "a"}), one({"text": ""})], "requests[1].content.parts[0]: is an empty text"),
        ([one({"text": "a"}), one({"text": "b"}, outputDimensionality=8)], "want several sizes"),
        ([one({"text": "a"})] * 9, "requests: 9 contents are asked for, at most 8"),
        ([one(*[{"text": "a"}] * 1100)] * 8, "requests: 8800 parts are sent, at most 8192"),
    ):
        answer = served.post(path, {"requests": requests})
        assert answer.status_code == 400 and message in answer.json()["error"]["message"]
    with pytest.raises(errors.ClientError, match="there is no model 'hen'") as caught:
        client.models.embed_content(model="hen", contents="a")
    assert caught.value.code == 404


def test_a_model_without_ears_says_so(serve: Any) -> None:
    from commonspace.serving.http.service import Service
    from tests.models.tiny import tiny_embedder

    deaf = serve(Service(tiny_embedder(towers=("image",)), ["deaf"]))
    answer = deaf.post("/v1beta/models/deaf:embedContent", one(inline(SOUND, "audio/wav")))
    assert answer.status_code == 400 and "this model has no audio tower" in answer.json()["error"]["message"]
