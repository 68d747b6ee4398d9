"""The turns of a conversation as training renders them, for a chat template that is served.

Whoever serves an adapter gives the saved template OpenAI's messages and `tools`. Where training
spelled tools out, or put system texts before the first question, the saved template begins with the
same in Jinja, and the model's own template follows with the messages that result.
"""

from __future__ import annotations

import json

from finetuning_exam.data.tool_text import introduction

_TOOL = '{"name": "tool7qZvWx"}'
_BEFORE, _AFTER = introduction(f"[{_TOOL}]").split(_TOOL)
_TEXT_OF = """\
{%- macro text_of(content) -%}
{%- if content is string -%}{{- content -}}
{%- elif content -%}{{- content | map(attribute='text') | join -}}{%- endif -%}
{%- endmacro -%}
"""
_SPELLED = """\
{%- set served = namespace(turns=[], results=[], parts=[], lines=[]) -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{%- set result = '<tool_response>\\n' + text_of(message.content) + '\\n</tool_response>' -%}
{%- set served.results = served.results + [result] -%}
{%- else -%}
{%- if served.results -%}
{%- set results = {'role': 'user', 'content': served.results | join('\\n')} -%}
{%- set served.turns = served.turns + [results] -%}
{%- set served.results = [] -%}
{%- endif -%}
{%- if message.tool_calls -%}
{%- set text = text_of(message.content) | trim -%}
{%- set served.parts = [text] if text else [] -%}
{%- for call in message.tool_calls -%}
{%- set called = call.function if call.function is mapping else call -%}
{%- set arguments = called.arguments -%}
{%- set arguments = arguments if arguments is string else arguments | tojson -%}
{%- set value = '{"name": ' + called.name | tojson + ', "arguments": ' + arguments + '}' -%}
{%- set served.parts = served.parts + ['<tool_call>\\n' + value + '\\n</tool_call>'] -%}
{%- endfor -%}
{%- set content = served.parts | join('\\n') -%}
{%- set served.turns = served.turns + [{'role': message.role, 'content': content}] -%}
{%- else -%}
{%- set served.turns = served.turns + [message] -%}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if served.results -%}
{%- set results = {'role': 'user', 'content': served.results | join('\\n')} -%}
{%- set served.turns = served.turns + [results] -%}
{%- endif -%}
{%- set has_system = served.turns and served.turns[0].role == 'system' -%}
{%- if tools -%}
{%- for tool in tools -%}
{%- set described = tool.function if tool.function is mapping else tool -%}
{%- set served.lines = served.lines + [described | tojson] -%}
{%- endfor -%}
{%- set text = BEFORE + served.lines | join('\\n') + AFTER -%}
{%- if has_system -%}
{%- set text = text_of(served.turns[0].content) + '\\n\\n' + text -%}
{%- set served.turns = served.turns[1:] -%}
{%- endif -%}
{%- set served.turns = [{'role': 'system', 'content': text}] + served.turns -%}
{%- endif -%}
{%- set messages = served.turns -%}
{%- set tools = none -%}
"""
_FOLDED = """\
{%- if messages and messages[0].role == 'system' CONDITION -%}
{%- set folded = namespace(turns=[], text=text_of(messages[0].content)) -%}
{%- for message in messages[1:] -%}
{%- if folded.text is string and message.role == 'user' -%}
{%- set content = folded.text + '\\n\\n' + text_of(message.content) -%}
{%- set folded.turns = folded.turns + [{'role': 'user', 'content': content}] -%}
{%- set folded.text = none -%}
{%- else -%}
{%- set folded.turns = folded.turns + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = folded.turns -%}
{%- endif -%}
"""


def served_turns(*, spells_tools: bool, folds_system: bool, in_question: bool) -> str:
    """Return the beginning of a chat template that changes its messages as training did; "" if
    nothing is changed.

    `in_question` has spelled-out tools before the first question where there is no system turn.
    """
    spelled = _SPELLED.replace("BEFORE", _literal(_BEFORE)).replace("AFTER", _literal(_AFTER))
    parts = [spelled] if spells_tools else []
    if folds_system:
        parts.append(_FOLDED.replace(" CONDITION", ""))
    elif spells_tools and in_question:
        parts.append(_FOLDED.replace("CONDITION", "and not has_system"))
    return "".join([_TEXT_OF, *parts]) if parts else ""


def _literal(text: str) -> str:
    """Return a text as Jinja writes it."""
    return json.dumps(text, ensure_ascii=False)
