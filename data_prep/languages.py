"""Language codes that sources use, and the English names that composed queries spell out."""

from __future__ import annotations

# Languages that multilingual-e5 was pretrained on (XLM-R, appendix A), in the codes our sources use. Captions in
# others would be cut into single bytes or unknown tokens, so sources leave them out.
KNOWN_LANGUAGES = frozenset(
    """af am ar az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr ga gd gl gu he hi hr hu hy id is it ja ka km
    kn ko ku lt lv mk ml mr ms nb ne nl nn or pa pl pt pt_BR ro ru sk sl sq sr sv sw ta te th tr uk ur vi zh_CN
    zh_TW""".split()
)

# Those that composed queries ask a picture's caption or name in: the languages that caption nearly every stamp of Tux
# Paint, of many scripts and families rather than the twenty largest counts.
ASKED_LANGUAGES = tuple("fr de es pt it nl sv da pl cs ru uk el ka hu fi tr ja ko ca".split())

LANGUAGE_NAMES = {
    "as": "Assamese",
    "bn": "Bengali",
    "ca": "Catalan",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "gu": "Gujarati",
    "hi": "Hindi",
    "hu": "Hungarian",
    "it": "Italian",
    "ja": "Japanese",
    "ka": "Georgian",
    "kn": "Kannada",
    "ko": "Korean",
    "ml": "Malayalam",
    "mr": "Marathi",
    "nl": "Dutch",
    "or": "Odia",
    "pa": "Punjabi",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "sv": "Swedish",
    "ta": "Tamil",
    "te": "Telugu",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
}
