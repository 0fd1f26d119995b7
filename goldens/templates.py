"""Chat template goldens: templates of our own, rendered by transformers.

    python goldens/templates.py [OUT.json]                    writes the goldens of crates/asft-data
    python goldens/templates.py OUT.json --model DIR          the same conversations through a model's own template
    python goldens/templates.py OUT.json --source FILE.jinja  the same through a template file

The templates below say what those of Llama 3, 3.1, 3.2 and ChatML say, in our own words and layout, and use
every feature those use. The second and third form make files for a check by hand; they are never committed.
Needs transformers and jinja2 (versions are written into the output). Dates: `strftime_now` is pinned by
replacing the `datetime` that transformers' template module reads.
"""

import argparse
import datetime
import json
from pathlib import Path

import jinja2
import tokenizers
import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

DATE = datetime.datetime(2024, 2, 9)
HERE = Path(__file__).resolve().parent


class Pinned(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return DATE


chat_template_utils.datetime = Pinned

HEADER = """\
{% macro turn(role, text) %}
{{ '<|start_header_id|>' ~ role ~ '<|end_header_id|>\\n\\n' ~ text | trim ~ '<|eot_id|>' }}
{%- endmacro %}
"""

TEMPLATES = {
    "llama-3": """\
{% for message in messages %}
    {% if loop.first %}{{ bos_token }}{% endif %}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- if loop.last and add_generation_prompt %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
    {%- endif %}
{% endfor %}
""",
    "llama-3.1": HEADER + """\
{%- set today = date_string if date_string is defined else '26 Jul 2024' -%}
{{- bos_token -}}
{%- set ns = namespace(system='', rest=messages) -%}
{% if messages and messages[0].role == 'system' %}
    {%- set ns.system = messages[0]['content'] | trim -%}
    {%- set ns.rest = messages[1:] -%}
{% endif %}
{{- turn('system', 'Cutting Knowledge Date: December 2023\\nToday Date: ' + today + '\\n\\n' + ns.system + '<|eot_id|>')[:-10] -}}
{% for message in ns.rest -%}
    {{- turn(message['role'], message.content) -}}
{% endfor %}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
""",
    "llama-3.2": """\
{{- bos_token }}
{%- if date_string is not defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now('%d %b %Y') %}
    {%- else %}
        {%- set date_string = '26 Jul 2024' %}
    {%- endif %}
{%- endif %}
{#- The system turn is always there. #}
{%- set has_system = messages[0]['role'] == 'system' %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: ' + date_string + '\\n\\n' }}
{%- if has_system %}
    {{- messages[0]['content'] | trim }}
{%- endif %}
{{- '<|eot_id|>' }}
{%- if not tools is none %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) + '\\n\\n' }}
    {%- endfor %}
    {{- '<|eot_id|>' }}
{%- endif %}
{%- for message in (messages[1:] if has_system else messages) %}
    {%- if message.role == 'tool' and message.content is iterable %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + (message.content | tojson) + '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "chatml": """\
{% if messages[0]['role'] != 'system' %}
<|im_start|>system
You are helpful.<|im_end|>
{% endif %}
{% for message in messages %}
{{ '<|im_start|>' ~ message.role }}
{{ message.content + '<|im_end|>' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "strict": """\
{%- if messages | length > 0 and messages[0].role == 'system' -%}
    {%- set system, turns = messages[0].content.strip(), messages[1:] -%}
{%- else -%}
    {%- set system, turns = none, messages -%}
{%- endif -%}
{{ bos_token }}
{%- for message in turns -%}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('roles must alternate, got ' + message.role + ' at ' ~ loop.index0) }}
    {%- endif -%}
    {%- if loop.first and not system is none -%}
        [INST] {{ system }}

{{ message.content.strip() }} [/INST]
    {%- elif message.role == 'user' -%}
        [INST] {{ message.content.strip() }} [/INST]
    {%- else -%}
        {%- generation -%} {{ message.content.rstrip() }}{{ eos_token }}{%- endgeneration -%}
    {%- endif -%}
{%- endfor -%}
""",
    "features": """\
{%- set ns = namespace(count=0, seen=[]) %}
{%- for message in messages %}
    {%- if message.content.startswith('skip') %}{% continue %}{% endif %}
    {%- if message.content == 'stop' %}{% break %}{% endif %}
    {%- set ns.count = ns.count + 1 %}
    {%- set ns.seen = ns.seen + [message.role] %}
    {{- loop.index ~ '/' ~ loop.length ~ ' ' ~ message.role | upper ~ ': ' }}
    {%- if '</think>' in message.content %}
        {{- message.content.split('</think>')[-1].lstrip('\\n') }}
    {%- else %}
        {{- message.content | trim }}
    {%- endif %}
    {{- '|' ~ (message.content.split() | join('_')) ~ '|' ~ message.content.replace('a', 'A') ~ '|' }}
    {{- message.content.endswith('.') }} {{ message.get('name') is none }} {{ message.get('name', 'x') }}
    {{- message | tojson }}
{{ message['content'] | tojson(indent=2) }}
    {%- if not loop.last %}
---
    {%- endif %}
{%- endfor %}
{{ {'count': ns.count, 'seen': ns.seen, 'none': none, 'yes': true, 'float': [0.5, 1.0, 1e20, 1.5e-07], 'empty': [{}, []]} | tojson(indent=4) }}
{{ {'b': '<é&\\'>', 'a': [1, 2]} | tojson(sort_keys=true, ensure_ascii=true) }} {{ [1, {'k': 2}] | tojson(separators=(',', ':')) }}
{{ none }} {{ true }} {{ missing }} {{ missing is defined }} {{ bos_token is defined }} {{ unk_token is defined }}
{{- ' ' ~ (tools is none) ~ ' ' ~ (documents is defined) ~ ' ' ~ add_generation_prompt }}
{{ strftime_now('%Y-%m-%d %A %B %j %H:%M %-d%%') }}
{%- for item in 'a,b,c'.split(',') if item != 'b' %} {{ loop.index0 }}{{ item }}{{ loop.previtem | default('-') }}{% endfor %}
""",
}

# Jinja reads CRLF in a source as a line feed.
TEMPLATES["llama-3-crlf"] = TEMPLATES["llama-3"].replace("\n", "\r\n")


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


CONVERSATIONS = {
    "one-turn": [user("What is two plus two?")],
    "answered": [user("What is two plus two?"), assistant("Four.")],
    "multi-turn": [user("Hi"), assistant("Hello! How can I help?"), user("Name a colour."), assistant("Blue.")],
    "system": [system("Answer briefly."), user("Why is the sky blue?"), assistant("Rayleigh scattering.")],
    "empty-system": [system(""), user("Hello"), assistant("Hi.")],
    "blank-system": [system(" \n\t "), user("Hello")],
    "unicode": [user("Grüße, 世界! \u00a0 नमस्ते 👩‍👩‍👧 \u200bzero"), assistant("שלום \u0301e 🦀")],
    "odd-spaces": [user("  leading and trailing \t\n"), assistant("\r\nCRLF\r\nlines\r\n"), user("\u3000wide\u2028line\u0085\x1c")],
    "quotes": [user("He said \"don't\" and 'do' \\ \\n {{ x }} {% if %}"), assistant('{"a": ["<b>&amp;</b>", null]}\n')],
    "special-text": [user("<|eot_id|><|im_end|> skip"), assistant("skip this"), user("<think>no</think>\n\nyes. a")],
    "stop": [user("a"), assistant("stop"), user("never")],
    "two-users": [user("one"), user("two")],
    "lists": [user("1. first\n2. second\n\n    code\n\tif x % 2:\n"), assistant("- a\n- b\n")],
    "empty": [user(""), assistant("")],
}

TOOL = {"type": "function", "function": {"name": "wetter", "description": "Grüße <b>", "parameters": {}}}
VARIABLES = {
    "llama-3.1": [{"date_string": "09 Feb 2024"}],
    "llama-3.2": [{"date_string": "01 Jan 2025"}, {"tools": [TOOL]}],
}


def tokenizer_of(arguments):
    if arguments.model:
        path = Path(arguments.model)
        if path.suffix == ".gguf":
            return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        return AutoTokenizer.from_pretrained(path)
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"<|begin_of_text|>": 0, "<|eot_id|>": 1}, []))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")


def render(tokenizer, source, messages, generation, variables):
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=generation, **variables
        )
        return {"text": text}
    except jinja2.exceptions.UndefinedError:
        return {"fails": True}
    except jinja2.exceptions.TemplateError as error:
        return {"raises": str(error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE.parent / "crates/asft-data/tests/goldens/templates.json"
    parser.add_argument("out", nargs="?", default=default)
    parser.add_argument("--model")
    parser.add_argument("--source")
    arguments = parser.parse_args()

    tokenizer = tokenizer_of(arguments)
    templates = TEMPLATES
    if arguments.source:
        templates = {Path(arguments.source).stem: Path(arguments.source).read_text(encoding="utf-8")}
    elif arguments.model:
        templates = {"model": tokenizer.chat_template}
    cases = []
    for name, source in templates.items():
        for variables in [{}, *VARIABLES.get(name, [{"date_string": "09 Feb 2024"}] if name not in TEMPLATES else [])]:
            for conversation, messages in CONVERSATIONS.items():
                for generation in (False, True):
                    cases.append(
                        {
                            "template": name,
                            "conversation": conversation,
                            "generation": generation,
                            "variables": variables,
                            **render(tokenizer, source, messages, generation, variables),
                        }
                    )
    goldens = {
        "made_by": "goldens/templates.py",
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "date": DATE.strftime("%Y-%m-%d"),
        "special_tokens": tokenizer.special_tokens_map,
        "templates": templates,
        "conversations": CONVERSATIONS,
        "cases": cases,
    }
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    Path(arguments.out).write_text(json.dumps(goldens, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{arguments.out}: {len(cases)} cases, {sum('raises' in c for c in cases)} raise, {sum('fails' in c for c in cases)} fail")


if __name__ == "__main__":
    main()
