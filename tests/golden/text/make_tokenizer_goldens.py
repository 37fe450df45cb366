"""Writes clip_tokens.json: 1,000 strings and the tokens that transformers' slow CLIPTokenizer gives them.

    python make_tokenizer_goldens.py [--seed 0] [--count 1000] [--dest clip_tokens.json]
    python make_tokenizer_goldens.py --hard --count 400 --dest clip_tokens_hard.json
    python make_tokenizer_goldens.py --planes --dest clip_tokens_planes.json

with transformers 4.46.3 and without ftfy, under Python 3.11 (Unicode 14). The file is a list of [string, tokens without
start and end]; with --hard of strings whose words are hard to tell apart; with --planes it has one SHA-256 for each
plane of Unicode that has letters or marks, of the tokens of all its characters between others.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
import unicodedata
from pathlib import Path

import transformers

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "models"))
from clip_vocabulary import write_tokenizer  # noqa: E402

WORDS = """a photo of an astronaut riding horse on the moon in style Van Gogh Caf\u00e9 na\u00efve Z\u00fcrich don't we're I'VE they'll he'd I'm
cat's DOG'S rock 'n' roll 4k 8K 1920x1080 f/1.8 35mm $5.00 50% C++ #hashtag @artist https://example.com/a?b=c&d=e user_name
state-of-the-art o'clock Stra\u00dfe ISTANBUL \u0130stanbul \u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u03c3\u03c2 \u041c\u043e\u0441\u043a\u0432\u0430 \u041a\u0438\u0457\u0432 \u6771\u4eac \uc11c\uc6b8 \u5927\u962a\u57ce \u5317\u4eac \u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8 \u3072\u3089\u304c\u306a
\u30ab\u30bf\u30ab\u30ca \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 ti\u1ebfng Vi\u1ec7t \ufb01ne \ufb02ow \uff21\uff42\uff43 \uff11\uff12\uff13 \u00bd \u00b2 \u2460 \u2167 ma\u00f1ana voil\u00e0 \u017ftar '\u017f it'\u017f <|\u017ftartoftext|> \u00c5 \u03a9 K \u1e9e \u01c4 \u01c5
<|startoftext|> <|endoftext|> <|ENDOFTEXT|> <|StartOfText|> <|endoftext <| |> (((masterpiece))) [x] {y} "quoted" \u201ccurly\u201d \u2018single\u2019 \u2014 \u2026
\U0001f431 \U0001f469\u200d\U0001f680 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f \u2603 \u265e \U0001fae0 \U0001fa77 antidisestablishmentarianism supercalifragilisticexpialidocious aaaaaaaaaaaaaaaa
e\u0301a\u0308 \u0130\u0307 a\u200bb a\u200db a\u00adb a\ufeffb \ufffd \x00 a\x07b \u2028 \u3000 \u00a0 \u1680 \ue000 \u0378""".split(
    " "
)
SPACES = [" ", " ", " ", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\x85", "\x0b", "\x1c", "", ""]
FIXED = [
    "",
    " ",
    "\n\n",
    "a",
    "A",
    "!",
    "0",
    "\x00",
    "\ufffd",
    "<|endoftext|>",
    "'s",
    "''",
    "word " * 100,
    "x" * 700,
    "9" * 90,
    "!" * 300,
    "ab" * 60,
]


PLANES = (0, 1, 14)


def random_character(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.4:
        return chr(draw.randrange(0x20, 0x7F))
    if kind < 0.6:
        return chr(draw.randrange(0x00, 0x600))
    if kind < 0.75:
        return chr(
            draw.choice([0x1F300, 0x1F900, 0x4E00, 0x3040, 0xAC00, 0x2000, 0x2190, 0x1E00, 0xFF00, 0x10400])
            + draw.randrange(0x100)
        )
    code = draw.randrange(0x110000)
    return chr(code) if not 0xD800 <= code < 0xE000 else "a"


def random_string(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.6:
        return "".join(draw.choice(WORDS) + draw.choice(SPACES) for _ in range(draw.randrange(1, 10)))
    return "".join(random_character(draw) for _ in range(draw.randrange(1, 24)))


def hard_string(draw: random.Random) -> str:
    """Pieces that begin, join or part words, without spaces between most of them."""
    pieces = [
        "'",
        "'s",
        "'S",
        "'\u017f",
        "'t",
        "'T",
        "'re",
        "'RE",
        "'rE",
        "'ve",
        "'m",
        "'ll",
        "'lL",
        "'l",
        "'d",
        "'r",
        "\u2019s",
    ]
    pieces += [
        "<|startoftext|>",
        "<|STARTofTEXT|>",
        "<|\u017ftartoftext|>",
        "<|endoftext|>",
        "<|EndOfText|>",
        "<|",
        "|>",
        "<",
    ]
    pieces += [
        *"aSz\u0130\u017f\u1e9e\u03a3\u03c2\u03b9\u1fb3\u01c5\u00aa\u02b0\u2160\u00b2\u0664\u0967\uff15\U0001d7d8!?_-.\u00a1\u20ac\u2764\U0001f431"
    ]
    pieces += [
        *"\u0301\u0327\u0345\u05b0\u0903\u20dd\ufe0f\U0001d165 \t\n\u0085\u00a0\u1680\u180e\u2003\u2028\u2029\u202f\u205f\u3000\u200b\u200d\ufeff\u001c\u000b"
    ]
    pieces += [
        *"\u1100\u1161\u11a8\ua015\u16a0\u3007\u4e00\u3042\U00010400\U0001e922\U00020000\U0002fa1d\U000e0061\U0010fffd\ue000\U0003fffe"
    ]
    return "".join(
        draw.choice(pieces) if draw.random() < 0.9 else random_character(draw) for _ in range(draw.randrange(2, 16))
    )


def plane_string(start: int) -> str:
    """256 characters, each behind and in front of a letter, a sign and a digit."""
    codes = (code for code in range(start, start + 256) if not 0xD800 <= code < 0xE000)
    return "".join(f"a{chr(code)}b!{chr(code)}?1{chr(code)}'{chr(code)} " for code in codes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--dest", type=Path, default=HERE / "clip_tokens.json")
    parser.add_argument("--hard", action="store_true")
    parser.add_argument("--planes", action="store_true")
    options = parser.parse_args()
    if transformers.__version__ != "4.46.3" or unicodedata.unidata_version != "14.0.0" or "ftfy" in sys.modules:
        raise SystemExit("run with transformers 4.46.3, Python 3.11 and without ftfy")
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(folder)
        tokenizer = transformers.CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt")
    if tokenizer.fix_text is not None:
        raise SystemExit("ftfy is installed: the reference is the tokenizer without it")
    draw = random.Random(options.seed)

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    if options.planes:
        texts = ([plane_string(start) for start in range(plane << 16, (plane + 1) << 16, 256)] for plane in PLANES)
        lines = ("".join(f"{' '.join(map(str, tokens(text)))}\n" for text in plane) for plane in texts)
        rows = [
            [number, hashlib.sha256(plane.encode()).hexdigest()] for number, plane in zip(PLANES, lines, strict=True)
        ]
    else:
        make = hard_string if options.hard else random_string
        fixed = [] if options.hard else FIXED
        strings = fixed + [make(draw) for _ in range(options.count - len(fixed))]
        rows = [[text, tokens(text)] for text in strings]
    options.dest.write_text(
        "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
