#!/usr/bin/env bash
# Installs core and edge, and nothing else of ours, into an environment of their own and runs their tests there:
# whatever the edge must not need would be missing. Arguments: those of pytest, with the paths of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
env=.venv-edge
stale() { for file in requirements.lock edge/pyproject.toml shared/pyproject.toml deploy/edge-alone.sh; do [ "$file" -nt $env/.installed ] && return 0; done; return 1; }
if [ ! -e $env/.installed ] || stale; then
  .venv/bin/uv venv --quiet --clear --python .venv/bin/python $env
  .venv/bin/uv pip install --quiet --compile-bytecode --python $env/bin/python --constraint requirements.lock \
    -e shared -e edge pytest pytest-asyncio pytest-cov pytest-xdist hypothesis
  touch $env/.installed
fi
for heavy in pandas sklearn pandapower fastapi duckdb lightgbm onnx tieline_cloud tieline_sim; do
  if $env/bin/python -c "import $heavy" 2>/dev/null; then echo "$heavy can be imported in the edge's environment" >&2; exit 1; fi
done
export TIELINE_BROKER_PYTHON=$PWD/.venv/bin/python
exec $env/bin/python -m pytest -n 2 --dist loadfile -q -p no:cacheprovider "$@"
