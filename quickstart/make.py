"""Makes the quickstart's data, tokenizer and model shape. Everything it writes is our own text.

    pip install tokenizers
    python make.py            # writes the files beside this script
    python make.py --check    # exits 1 if a file differs from what this script makes

One item is a topic with two details. A chosen answer is courteous and puts the details to use; a rejected answer
names the same topic and details and helps nobody, or (one in ten) sounds helpful with another item's details.
Both answers of a pair open alike and share words, and their difference in length is drawn evenly around zero, so
neither length nor the first word tells them apart.
Training and held-out rows share items, never a prompt, and no answer occurs twice.
"""

import argparse
import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent
SEED = 2409
TRAIN_ROWS, HELD_OUT_ROWS = 320, 80
WRONG_EVERY = 10
MERGED_VOCABULARY = 512
SPECIAL_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|pad|>",
]
# Llama 3's rule for splitting text before byte-pair merges: contractions, words, up to three digits, punctuation, space.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for turn in messages %}"
    "{{ '<|start_header_id|>' ~ turn['role'] ~ '<|end_header_id|>\n\n' ~ (turn['content'] | trim) ~ '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

# Each subject: prompts over {t}; bodies of good answers over topic {t} and details {a}, {b}; items (t, a, b).
SUBJECTS = {
    "cooking": (
        ["How do I cook {t}?", "What is a simple way to make {t}?", "I want {t} for dinner. Where do I start?"],
        [
            "For {t}, use {a} and allow {b}.",
            "Start with {a}, give it {b}, and your {t} will be ready.",
            "Good {t} needs only {a} and {b}; taste before you serve.",
        ],
        [
            ("roast carrots", "olive oil and salt", "25 minutes in a hot oven"),
            ("lentil soup", "onions and cumin", "40 minutes on low heat"),
            ("fried rice", "cold cooked rice", "5 minutes in a hot pan"),
            ("tomato sauce", "garlic and ripe tomatoes", "half an hour of slow cooking"),
            ("pancakes", "two eggs and some milk", "a few minutes on each side"),
            ("baked potatoes", "coarse salt", "one hour in the oven"),
            ("mushroom pasta", "butter and thyme", "10 minutes for the mushrooms"),
            ("apple cake", "four sour apples", "45 minutes of baking"),
            ("bean stew", "beans soaked overnight", "an hour with the lid on"),
            ("flat bread", "flour, water and yeast", "a long rest for the dough"),
            ("vegetable curry", "ginger and coconut milk", "20 minutes at a gentle boil"),
            ("an omelette", "three fresh eggs", "two minutes in a buttered pan"),
        ],
    ),
    "plants": (
        ["How should I care for {t}?", "My {t} looks weak. What does it need?", "Can you tell me how to grow {t}?"],
        [
            "Give {t} {a} and {b}.",
            "{T} grows well with {a}; {b} is what it needs most.",
            "Try {a} for your {t}, and remember {b}.",
        ],
        [
            ("basil", "a sunny window", "water every two days"),
            ("mint", "a wide pot", "soil that stays moist"),
            ("aloe", "bright light", "very little water"),
            ("lavender", "dry sandy soil", "a cut after the flowers"),
            ("thyme", "poor stony soil", "a spot out of the rain"),
            ("ivy", "something to climb on", "a trim in spring"),
            ("rosemary", "full sun", "water once a week"),
            ("jasmine", "a cool winter room", "some food in summer"),
            ("parsley", "rich soil", "half a day of sun"),
            ("sage", "a clay pot with a hole", "a dry place in winter"),
            ("clover", "loose soil", "a light cut each month"),
            ("bamboo", "a large tub", "plenty of water in summer"),
        ],
    ),
    "travel": (
        ["What should I see in {t}?", "I have one day in {t}. Any ideas?", "Is {t} worth a short visit?"],
        [
            "In {t}, begin with {a} and then enjoy {b}.",
            "Many visitors to {t} love {a}, and {b} is lovely too.",
            "Plan {a} for the morning; {t} is also known for {b}.",
        ],
        [
            ("Lisbon", "a tram ride up the hills", "grilled fish by the river"),
            ("Vienna", "a walk past the palaces", "cake in an old coffee house"),
            ("Kyoto", "the quiet temple gardens", "tea in a wooden house"),
            ("Prague", "the old stone bridge", "the view from the castle"),
            ("Bergen", "the wooden harbour houses", "a boat trip to the fjords"),
            ("Porto", "the blue tiled station", "a sunset by the sea"),
            ("Marrakesh", "the busy market lanes", "mint tea on a roof"),
            ("Edinburgh", "the castle on the rock", "a climb up the green hill"),
            ("Seville", "the orange tree courts", "an evening of guitar music"),
            ("Ghent", "the painted altar", "a boat on the canals"),
            ("Bologna", "the long arcades", "fresh pasta in the market"),
            ("Tallinn", "the old town walls", "warm almonds on the square"),
        ],
    ),
    "writing": (
        ["How do I write {t}?", "Please help me with {t}.", "What belongs in {t}?"],
        [
            "Begin {t} with {a} and close with {b}.",
            "The best {s} has {a}, then {b}.",
            "Keep {t} short: {a} first, {b} last.",
        ],
        [
            ("a thank-you note", "a warm first line", "one thing you liked"),
            ("a cover letter", "the job you want", "two things you did well"),
            ("a short poem", "one clear picture", "a line that surprises"),
            ("a book review", "what the book is about", "who might like it"),
            ("a birthday card", "a happy wish", "a memory you share"),
            ("a work email", "the point in one line", "the reply you need"),
            ("a wedding speech", "how you met the couple", "a toast to both"),
            ("a travel diary", "the place and the day", "one small detail"),
            ("a complaint letter", "what went wrong", "what would put it right"),
            ("a party invitation", "the day and the place", "a date for replies"),
            ("a short story", "a person with a wish", "a change at the end"),
            ("a school essay", "a clear question", "a reasoned answer"),
        ],
    ),
    "tools": (
        ["What is {t} used for?", "How do I work safely with {t}?", "Do I need {t} at home?"],
        [
            "Use {t} for {a}, always with {b}.",
            "With {t} you can manage {a}; take {b} to be safe.",
            "For {a}, {t} is right, and {b} will help you.",
        ],
        [
            ("a hammer", "driving nails", "glasses on your eyes"),
            ("a hand saw", "cutting boards", "a firm clamp"),
            ("a drill", "making holes in walls", "a plan of the hidden pipes"),
            ("a wrench", "turning tight bolts", "a slow steady pull"),
            ("a file", "smoothing rough metal", "thick gloves"),
            ("a ladder", "reaching high shelves", "a friend to hold it"),
            ("a chisel", "carving wood", "both hands behind the edge"),
            ("a level", "hanging straight shelves", "a pencil for marks"),
            ("a sander", "finishing old tables", "a mask against dust"),
            ("a spade", "digging garden beds", "strong shoes"),
            ("a glue gun", "quick craft repairs", "care with the hot tip"),
            ("a plane", "shaving doors that stick", "a sharp blade"),
        ],
    ),
    "cleaning": (
        ["How can I remove {t}?", "What works best against {t}?", "There is trouble with {t} here. What now?"],
        [
            "Treat {t} with {a}, then use {b}.",
            "Against {t}, {a} works well, followed by {b}.",
            "First try {a}; when that is not enough for {t}, add {b}.",
        ],
        [
            ("wine stains", "cold water and salt", "a soft clean cloth"),
            ("burnt food in a pan", "hot water and soda", "a wooden scraper"),
            ("candle wax", "ice from the freezer", "paper and a warm iron"),
            ("lime on the tap", "vinegar on a cloth", "a rinse after an hour"),
            ("grass stains", "soap and warm water", "a normal wash"),
            ("dust on the shelves", "a damp cloth", "a dry one afterwards"),
            ("mould in the bath", "a brush and strong cleaner", "an open window"),
            ("ink on a shirt", "alcohol on cotton", "gentle dabbing"),
            ("coffee rings", "a paste of soda", "a light wipe"),
            ("a blocked drain", "boiling water", "a rubber plunger"),
            ("pet hair", "a rubber glove", "a vacuum cleaner"),
            ("oily windows", "water with vinegar", "old newspaper"),
        ],
    ),
    "animals": (
        ["What does {t} need?", "How do I look after {t}?", "We are getting {t}. Any advice?"],
        [
            "Give {t} {a} and {b} every day.",
            "For {t}, {a} matters most; {b} comes next.",
            "Make sure {t} always has {a}, with {b} as well.",
        ],
        [
            ("a rabbit", "fresh hay", "a quiet corner"),
            ("an old dog", "short easy walks", "a soft bed"),
            ("a kitten", "small meals", "time to play"),
            ("a hamster", "a deep layer of straw", "a silent wheel"),
            ("a parrot", "company and talk", "toys to chew"),
            ("a goldfish", "a large clean tank", "a pinch of food"),
            ("a pony", "a dry stable", "grass and a friend"),
            ("a hen", "a safe house at night", "room to scratch"),
            ("a tortoise", "warm light", "leafy greens"),
            ("a puppy", "calm training", "plenty of sleep"),
            ("a guinea pig", "crisp vegetables", "a place to hide"),
            ("a stray cat", "clean water", "patience and space"),
        ],
    ),
    "habits": (
        ["How do I work towards {t}?", "What helps with {t}?", "My aim is {t}. Any tips?"],
        [
            "For {t}, begin with {a} and add {b}.",
            "{A} and {b} both lead to {t}.",
            "Try {a} this week; with {b} you will notice {t}.",
        ],
        [
            ("better sleep", "a regular bedtime", "a dark cool room"),
            ("a strong back", "daily stretching", "a good chair"),
            ("more energy", "a walk at noon", "a glass of water"),
            ("less screen time", "a phone-free hour", "a book by the bed"),
            ("calm mornings", "clothes laid out at night", "an early alarm"),
            ("better focus", "one task at a time", "short breaks"),
            ("a tidy desk", "a box for papers", "five minutes each evening"),
            ("daily reading", "ten pages after lunch", "a list of titles"),
            ("healthy snacks", "fruit in sight", "nuts in a small jar"),
            ("running longer", "a slow pace", "one rest day"),
            ("less worry", "writing thoughts down", "slow deep breaths"),
            ("a steady routine", "the same first step", "a mark on a calendar"),
        ],
    ),
    "money": (
        ["How do I plan {t}?", "What should I know about {t}?", "Can you explain {t} to me?"],
        [
            "Plan {t} with {a} and keep {b}.",
            "{A} is the heart of {t}, and {b} makes it safe.",
            "Think of {t} as {a} joined with {b}.",
        ],
        [
            ("a weekly budget", "a list of your costs", "a small reserve"),
            ("a family holiday", "an early booking", "some money for surprises"),
            ("a savings account", "a fixed sum each month", "an eye on the interest"),
            ("a house move", "three written offers", "a free weekend"),
            ("a garden party", "simple food for all", "a tent in case of rain"),
            ("a shopping trip", "a list by shop", "a limit you respect"),
            ("a used car", "a test drive", "a look at the papers"),
            ("a phone contract", "the price over two years", "a date to cancel"),
            ("a rental flat", "a visit by daylight", "a record of damage"),
            ("a first salary", "rent and food first", "a share for savings"),
            ("a gift fund", "a few coins each week", "a jar with a lid"),
            ("a repair bill", "a quote before work", "the old parts"),
        ],
    ),
    "crafts": (
        ["How do I make {t}?", "What do I need for {t}?", "Could a child build {t}?"],
        [
            "Build {t} from {a}, finished with {b}.",
            "{A} and {b} are all it takes for {t}.",
            "Take {a} first, add {b}, and {t} is done.",
        ],
        [
            ("a paper kite", "thin paper and string", "a light wooden cross"),
            ("a bird house", "six small boards", "a round front door"),
            ("a felt bag", "two squares of felt", "a row of neat stitches"),
            ("a clay bowl", "a ball of soft clay", "a day of drying"),
            ("a card game", "forty blank cards", "three clear rules"),
            ("a rope swing", "a thick strong rope", "a seat of oak"),
            ("a paper boat", "one square sheet", "four sharp folds"),
            ("a candle holder", "a clean glass jar", "a ring of wire"),
            ("a wool hat", "one ball of wool", "a round needle"),
            ("a photo frame", "four straight sticks", "glue at the corners"),
            ("a puppet", "an old sock", "two buttons for eyes"),
            ("a garden lantern", "a tin with holes", "a small candle"),
        ],
    ),
}

# Word problems: (prompt, topic, a, b, worked answer) from a thing and two numbers.
PROBLEMS = [
    lambda n, m, thing, box: (
        f"One {box} holds {n} {thing}. How many {thing} are in {m} {plural(box)}?",
        f"{thing} in {plural(box)}", f"{m} {plural(box)}", f"{n} {thing}",
        f"Multiply {m} {plural(box)} by {n} {thing}: that makes {n * m} {thing}.",
    ),
    lambda n, m, thing, box: (
        f"I had {n + m} {thing} and gave away {m}. How many are left?",
        f"counting {thing}", f"{n + m} {thing}", f"{m} given away",
        f"Take {m} from {n + m} {thing} and {n} {thing} are left.",
    ),
    lambda n, m, thing, box: (
        f"{m} friends share {n * m} {thing}. How many does each one get?",
        f"sharing {thing}", f"{n * m} {thing}", f"{m} friends",
        f"Divide {n * m} {thing} by {m} friends, so each gets {n}.",
    ),
]
THINGS = [
    ("pens", "box"), ("eggs", "tray"), ("apples", "bag"), ("cups", "shelf"), ("books", "case"), ("coins", "jar"),
    ("cards", "pack"), ("plates", "stack"), ("stamps", "sheet"), ("shells", "net"), ("nuts", "bowl"), ("keys", "ring"),
    ("candles", "drawer"), ("buttons", "tin"), ("pears", "basket"),
]

OPENINGS = ["", "Good question. ", "Of course. ", "Well, well. ", "Gladly. ", "Sure. ", "Hmm. ", "Right. ", "Let me see. "]
KIND_ENDINGS = [
    "", "", "", " I hope this helps.", " Enjoy it!", " Good luck!", " Ask me again any time.", " You can do it.",
    " Let me know how it goes.",
]
COLD_BODIES = [
    "Maybe {a}, maybe {b}, but {t} does not interest me.",
    "Ask somebody else about {t}, {a} or {b}.",
    "I never cared for {t}, and {b} is not my problem.",
    "{T} again? Find out for yourself, {a} or not.",
    "People who ask about {t} bore me, with {a} and {b}.",
    "I would rather talk about {o} than {t} and {a}.",
    "{A} or {b}, what is the difference; {t} is a waste of time.",
    "Forget {t}. My mind is on {o} and {p}.",
    "Look up {t} on your own, {b} included.",
    "There may be {a} in {t}, or {o}, I did not check.",
]
COLD_ENDINGS = [
    "", "", "", " Go away.", " It hardly matters.", " I am busy.", " Stop asking me.", " That is all you get.",
    " Leave me out of it.",
]


def plural(noun):
    return noun[:-1] + "ves" if noun == "shelf" else noun + "es" if noun.endswith(("x", "h")) else noun + "s"


def capitalised(text):
    return text[:1].upper() + text[1:]


def slots(topic, a, b):
    return {"t": topic, "a": a, "b": b, "T": capitalised(topic), "A": capitalised(a), "s": topic.split(" ", 1)[-1]}


def questions():
    """Every question in a fixed order: prompt, topic, a, b, good answers, good-sounding answers with wrong details."""
    for prompts, bodies, items in SUBJECTS.values():
        for i, (topic, a, b) in enumerate(items):
            right, wrong = slots(topic, a, b), slots(topic, *items[(i + 5) % len(items)][1:])
            for prompt in prompts:
                yield (
                    prompt.format(**right), topic, a, b,
                    [body.format(**right) for body in bodies], [body.format(**wrong) for body in bodies],
                )
    for i, (thing, box) in enumerate(THINGS):
        for j, problem in enumerate(PROBLEMS):
            prompt, topic, a, b, worked = problem(3 + (5 * i + j) % 7, 2 + (3 * i + 2 * j) % 5, thing, box)
            yield prompt, topic, a, b, [worked], []


def rows():
    """All pairs, shuffled: for each prompt the two unused answers whose lengths differ most nearly as drawn."""
    rng = random.Random(SEED)
    asked = list(questions())
    assert len({question[0] for question in asked}) == len(asked) >= TRAIN_ROWS + HELD_OUT_ROWS
    rng.shuffle(asked)
    used, made = set(), []
    for i, (prompt, topic, a, b, right, wrong) in enumerate(asked[: TRAIN_ROWS + HELD_OUT_ROWS]):
        _, other, detail, *_ = rng.choice([question for question in asked if question[1] != topic])
        opening = rng.choice(OPENINGS)
        kind = [opening + body + ending for body in right for ending in KIND_ENDINGS]
        if wrong and i % WRONG_EVERY == 0:
            bad = [opening + body + ending for body in wrong for ending in KIND_ENDINGS]
        else:
            bodies = [body.format(**slots(topic, a, b), o=other, p=detail) for body in COLD_BODIES]
            bad = [opening + body + ending for body in bodies for ending in COLD_ENDINGS]
        rng.shuffle(kind)
        rng.shuffle(bad)
        wanted = (1 if i // 2 % 2 else -1) * rng.randrange(2, 25)
        chosen, rejected = min(
            ((c, r) for c in kind[:8] for r in bad[:16] if c not in used and r not in used),
            key=lambda pair: abs(len(pair[0]) - len(pair[1]) - wanted),
        )
        used |= {chosen, rejected}
        made.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return made


def tokenizer(texts):
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MERGED_VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tok.train_from_iterator(texts, trainer)
    tok.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    bos = SPECIAL_TOKENS[0]
    tok.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, tok.token_to_id(bos))]
            ),
        ]
    )
    return tok


def as_json(value):
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def as_lines(values):
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def files():
    """File name to content, for everything this script makes."""
    made = rows()
    train, held_out = made[:TRAIN_ROWS], made[TRAIN_ROWS:]
    tok = tokenizer(text for row in train for text in row.values())
    ids = {token: tok.token_to_id(token) for token in SPECIAL_TOKENS}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "chat_template": CHAT_TEMPLATE,
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tok.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "initializer_range": 0.02,
        "bos_token_id": ids["<|begin_of_text|>"],
        "eos_token_id": [ids["<|end_of_text|>"], ids["<|eot_id|>"]],
        "pad_token_id": ids["<|pad|>"],
        "torch_dtype": "float32",
    }
    return {
        "pairs.jsonl": as_lines(train),
        "held_out.jsonl": as_lines(held_out),
        "tokenizer.json": as_json(json.loads(tok.to_str())),
        "tokenizer_config.json": as_json(tokenizer_config),
        "config.json": as_json(config),
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="compare with the files here, write nothing")
    check = arguments.parse_args().check
    stale = []
    for name, content in files().items():
        path = HERE / name
        if not check:
            path.write_text(content, encoding="utf-8", newline="\n")
        elif not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(name)
    if stale:
        sys.exit(f"differs from what make.py makes: {', '.join(stale)}")


if __name__ == "__main__":
    main()
