# The commands of this project. List them with `just`.
#
# Get just with `uv tool install rust-just`, with `pip install rust-just`, or from your package manager.
# Every recipe is one or two plain commands, so you can also read them here and type them yourself.
# Arguments go through: `just test tests/data -k csv`.

set positional-arguments

# List the recipes.
_default:
    @just --list --unsorted

# Install the project and its tools into .venv, as uv.lock pins them, and the Git hooks.
[group('set up')]
setup:
    uv sync --locked
    uv run pre-commit install

# Update uv.lock after a change to pyproject.toml; versions already locked stay.
[group('set up')]
lock:
    uv lock

# Format the code.
[group('check')]
format:
    uv run ruff format

# Check format and lint rules.
[group('check')]
lint:
    uv run ruff format --check
    uv run ruff check

# Check types.
[group('check')]
types:
    uv run mypy

# Run the Git hooks on every file.
[group('check')]
hooks:
    uv run pre-commit run --all-files

# Run the tests, one process per core (nine minutes on two).
[group('test')]
test *args:
    uv run pytest -n logical "$@"

# Run the slow tests, without the fault injection.
[group('test')]
slow *args:
    uv run pytest -m slow --ignore tests/faults "$@"

# Kill a run at every system call of a save, and fifty times at random; flip 300 bits (half an hour; needs strace).
[group('test')]
faults *args:
    uv run pytest -m slow -s tests/faults "$@"

# Search for records that the reader mishandles, with 20,000 examples per property instead of 100 (an hour).
[group('test')]
fuzz *args:
    uv run pytest -n logical tests/data/reading tests/data/encoding/test_conversation_laws.py -m hypothesis --hypothesis-profile=fuzz --timeout=0 "$@"

# Run the tests and show the lines that they never reach.
[group('test')]
coverage *args:
    uv run pytest -n logical --cov "$@"

# Run the tests on the newest releases of the training stack, past the bounds in pyproject.toml.
[group('test')]
newest *args:
    bash .ci/newest "$@"

# Run everything that a change must pass, on Python 3.11 and 3.13.
[group('test')]
ci:
    bash .ci/run

# Measure training speed and memory against plain TRL and against the machine's limit.
[group('measure')]
bench-throughput *args:
    uv run bench/throughput.py "$@"

# Compare the loss of every step with stock TRL's.
[group('measure')]
bench-loss-curves *args:
    uv run bench/loss_curves.py "$@"

# Measure how fast the base and the tuned model answer.
[group('measure')]
bench-inference *args:
    uv run bench/inference.py "$@"

# Measure how long each command takes to start.
[group('measure')]
bench-startup *args:
    uv run bench/startup.py "$@"

# Measure the matrix rate that no training step can exceed on this machine.
[group('measure')]
bench-roofline *args:
    uv run bench/roofline.py "$@"

# Plant faults of each kind into clean records, and see which `fte check` finds.
[group('measure')]
bench-planted-faults *args:
    uv run bench/planted_faults.py "$@"

# Measure precision, recall and speed of the search for near duplicates.
[group('measure')]
bench-near-duplicates *args:
    uv run bench/near_duplicates.py "$@"

# Simulate exams: how often the verdict is wrong, and how small a difference it finds.
[group('measure')]
bench-exam-simulation *args:
    uv run bench/exam_simulation.py "$@"

# Simulate cross-validations: how often the verdict takes a side when nothing was learned.
[group('measure')]
bench-exam-folds *args:
    uv run bench/exam_folds.py "$@"

# Examine adapters that were taught nothing: how often the verdict takes a side (ten minutes).
[group('measure')]
bench-exam-null *args:
    uv run bench/exam_null.py "$@"

# Make a model folder with a public architecture and random weights, to measure on.
[group('measure')]
bench-model *args:
    uv run bench/shapes.py "$@"

# Build the wheel and the source distribution into dist/.
[group('release')]
build:
    uv build
