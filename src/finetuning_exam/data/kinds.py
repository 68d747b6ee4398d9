"""The kinds of finding that data can have, each with its severity, title and hint."""

from __future__ import annotations

from enum import Enum
from typing import Literal, get_args

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The most serious first: an error makes a record unusable, a warning is worth a look."""

_REMOVE = "Remove them, unless they are intended."
_RESTORE = "Restore the text from its source."
_TURNS = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'


class Kind(Enum):
    """A kind of finding. Its name in lower case is its name in JSON."""

    def __init__(self, severity: Severity, title: str, hint: str) -> None:
        self.severity: Severity = severity
        self.title = title
        self.hint = hint

    NOT_UTF8 = (
        "error",
        "not valid UTF-8",
        "Save the file as UTF-8 (from Windows-1252: iconv -f CP1252 -t UTF-8 FILE > NEW).",
    )
    NOT_JSON = ("error", "not valid JSON", "Fix the line.")
    PYTHON_NOTATION = (
        "error",
        "Python's notation instead of JSON",
        "Write records with json.dumps(record). To convert: json.dumps(ast.literal_eval(text)).",
    )
    SEVERAL_OBJECTS = ("error", "several objects on one line", "Write one object per line.")
    NOT_FINITE = ("error", "infinite number", "JSON has none: use a number, a string or null.")
    TOO_DEEP = ("error", "nested too deeply", "Write a flat object.")
    TOO_LONG_LINE = ("error", "line too long", "Split the record into smaller ones.")
    NOT_AN_OBJECT = ("error", "not an object", 'Write {"instruction": "…", "output": "…"}.')
    DUPLICATE_KEY = ("error", "duplicate field", "Keep one of the two.")
    MISSING_FIELD = (
        "error",
        "missing field",
        "Add the field, or name your own with --prompt_field and --answer_field.",
    )
    MISSPELT_FIELD = ("error", "misspelled field name", "Rename the field.")
    WRONG_TYPE = ("error", "wrong type", "Change the value to the expected type.")
    EMPTY_PROMPT = ("error", "empty prompt", "Write the prompt, or remove the record.")
    EMPTY_ANSWER = ("error", "empty answer", "Write the answer, or remove the record.")
    LONE_SURROGATE = ("error", "unpaired surrogate", "Write the whole character.")
    WRONG_COLUMNS = ("error", "wrong number of columns", "Quote cells that contain the separator.")
    BAD_QUOTES = ("error", "unbalanced quotation marks", 'Write " inside a quoted cell as "".')
    CUT_FILE = ("error", "truncated or damaged file", "Download or copy the file again.")
    BAD_TURNS = (
        "error",
        "malformed conversation",
        "Give every turn a role and a text, and alternate user and assistant, user first.",
    )
    NO_ROLES = ("error", "texts without roles", f"Write {_TURNS}.")
    GREETING_FIRST = (
        "error",
        "assistant turn before the first question that the chat template does not take",
        "To write a copy in which these conversations begin with their first question, run "
        "fte check FILE --model MODEL --fix NEW.jsonl. --template plain takes them as they are.",
    )
    BAD_TOOLS = (
        "error",
        "malformed tools or calls",
        'Define a tool as {"name": "…", …}, and call it as {"name": "…", "arguments": {…}}.',
    )
    NOT_TRAINED = ("warning", "record with weight 0: left out", "Remove it, or give it a weight.")
    UNSUPPORTED = ("error", "unsupported content", "Remove it from the records.")
    CHANGES_TRAINING = (
        "error",
        "field that would change training",
        "Remove these records, or remove the field if it should not count.",
    )
    HELD_OUT = (
        "error",
        "records of another split",
        "Write each split to a file of its own (--eval_file names the exam's). To write a copy "
        "without these records, run fte check FILE --fix NEW.jsonl.",
    )
    NOT_INSTRUCTIONS = (
        "error",
        "records for another training method",
        "Give each record one prompt and one answer.",
    )
    SPECIAL_TOKEN = (
        "error",
        "special token in the text that the chat template would interpret",
        "Remove it, or use --template plain, where it is ordinary text.",
    )
    TEMPLATED_TEXT = (
        "warning",
        "text that already has the marks of a chat template",
        f"Write the turns as {_TURNS}: then the answers alone are trained, with the model's own "
        "template.",
    )
    TEMPLATE_MARKS = (
        "warning",
        "marks of the chat template that are not tokens of the tokenizer",
        "Use --template plain, or a tokenizer that has these tokens.",
    )
    TEMPLATE_DATE = (
        "note",
        "chat template that writes today's date",
        "A run keeps the date of its start, also when it is resumed, examined and compared.",
    )
    TEMPLATE_HISTORY = (
        "note",
        "chat template that changes an answer once others follow it",
        "Each answer is trained in a row of its own, after the history as it is shown then.",
    )
    TOOLS_SPELLED_OUT = (
        "note",
        "tools that the template has no place for",
        "The system text describes them, and what they return is a turn of the user.",
    )
    SYSTEM_REFUSED = (
        "error",
        "system turn that the chat template does not take",
        "Use --system_turns fold, which puts it before the first question, or --template plain.",
    )
    SYSTEM_FOLDED = (
        "note",
        "system text before the first question",
        "--system_turns fold asks for it, and the exam, fte compare and the saved chat template do "
        "the same.",
    )
    GREETING = (
        "note",
        "assistant turn before the first question",
        "It answers nothing, so the exam does not ask for it. A weight of 0 has it only read.",
    )
    TURNS_REFUSED = (
        "error",
        "conversation that the chat template does not take",
        "Change its turns to what the template expects, or use --template plain.",
    )
    THOUGHT = (
        "error",
        "answer with a thought, in a run without",
        "Use --enable_thinking true, or remove the thoughts.",
    )
    NOTHING_LEFT = (
        "error",
        "no rows left",
        "Raise --max_length (at most the model's context length), or shorten the answers.",
    )
    ANSWER_TOO_LONG = (
        "warning",
        "answer too long: example left out",
        "Shorten the answer, or raise --max_length (at most the model's context length).",
    )
    PROMPT_CUT = (
        "warning",
        "prompt too long: truncated",
        "Shorten the prompt, or raise --max_length (at most the model's context length).",
    )
    REPEATED_HEADER = (
        "warning",
        "header line inside the table",
        "It is left out. If files were joined, check that their columns have the same order.",
    )
    UNUSED_LABEL = (
        "warning",
        "label that is not used",
        "Without --answer_field, the text alone is trained.",
    )
    EXACT_DUPLICATE = (
        "warning",
        "exact duplicate",
        "To write a copy without them, run fte check FILE --fix NEW.jsonl.",
    )
    NEAR_DUPLICATE = ("warning", "near duplicate", "Keep one of them, unless both are intended.")
    CONFLICTING_ANSWERS = (
        "warning",
        "same prompt, different answers",
        "Keep the right answer; a model cannot learn both.",
    )
    OVERLAP = (
        "warning",
        "exam question also in the training data",
        "Remove it from one of the two files. The exam leaves it out, unless no question is new.",
    )
    NEAR_OVERLAP = (
        "warning",
        "exam question nearly the same as a training question",
        "Check that it asks something new.",
    )
    CONTROL_CHARACTER = ("warning", "control characters", _REMOVE)
    CARRIAGE_RETURN = (
        "note",
        "carriage returns in the text",
        "They are trained as written. To train on line feeds alone, end lines in texts with \\n.",
    )
    BIDI_CONTROL = ("warning", "bidirectional control characters", _REMOVE)
    INVISIBLE_CHARACTER = ("warning", "invisible characters", _REMOVE)
    REPLACEMENT_CHARACTER = (
        "warning",
        "replacement characters (U+FFFD) in place of lost text",
        _RESTORE,
    )
    MOJIBAKE = ("warning", "text decoded with the wrong encoding", _RESTORE)
    ESCAPED_TEXT = (
        "warning",
        "text escaped twice",
        "The model would learn to write the backslash. Decode the text once more where the file "
        'is made: in JSON, a newline is written "\\n", not "\\\\n".',
    )
    HTML_ENTITY = (
        "warning",
        "HTML entities in place of characters",
        "The model would learn to write them. Decode the text first (in Python: html.unescape).",
    )
    MISSING_VALUE = (
        "warning",
        "missing value written as text",
        "Write the text, or remove the record, unless this word is meant.",
    )
    PLACEHOLDER = (
        "warning",
        "placeholder in place of an answer",
        "The model would learn to write it. Write the answer, or remove the record.",
    )
    CUT_ANSWERS = (
        "warning",
        "answers cut off at one length",
        "The model would learn to stop in mid-sentence. Make these answers again with a higher "
        "limit, or remove them.",
    )
    REPEATED_ANSWER = (
        "warning",
        "one answer to many different questions",
        "The model would learn to give it to any question. Remove most of these records, unless "
        "it is meant.",
    )
    SPECIAL_TOKEN_TEXT = (
        "warning",
        "text that looks like a special token; trained as ordinary text",
        "Remove it, unless it is intended.",
    )
    ANSWER_IS_PROMPT = ("warning", "answer repeats the prompt", "Write the answer.")
    OUTER_SPACE = (
        "note",
        "leading or trailing whitespace in an answer",
        "It is trained as written.",
    )
    SIMILAR_TAGS = (
        "warning",
        "tags that differ only in case or whitespace",
        "Spell them the same way.",
    )
    RARE_TAG = (
        "note",
        "tag with fewer than five records",
        "Add records: results for so few say little.",
    )
    UNBALANCED = ("warning", "one answer dominates", "Add records with other answers.")
    FIELD_NAME = (
        "note",
        "field name read as a known one",
        "Rename the field to make this explicit.",
    )
    UNUSED_FIELD = (
        "note",
        "unused field",
        "If it should be read, rename it, or name it with --prompt_field or --answer_field.",
    )
    TAKING_TURNS = (
        "note",
        "conversation without roles",
        'Write {"messages": [{"role": "user", "content": "…"}, …]} if they mean something else.',
    )
    UNPACKED = (
        "note",
        "text read as its value",
        "Store the value itself, not its text, to make this explicit.",
    )
    JOINED_FILES = (
        "note",
        "byte-order mark inside a file",
        "It is not read as text. Join files without their byte-order marks to avoid this note.",
    )
    ROW_NUMBERS = (
        "note",
        "column of row numbers",
        "Write the table without them: df.to_csv(path, index=False).",
    )
    UNUSED_SHEET = ("note", "sheets that are not read", "Write each sheet to its own file.")
    PLAIN_TEXT = ("note", "plain text", 'For other divisions, write {"text": "…"} records.')
    FOUND_FILES = ("note", "files found in a folder", "To use others, give the files themselves.")
    UNUSED_FILE = ("note", "files of a folder that are not used", "To use one, give it by name.")
    FROM_STDIN = ("note", "standard input, which is not kept", "To keep it, write it to a file.")
    NAMED_TWICE = ("note", "file listed more than once", "List it once.")
