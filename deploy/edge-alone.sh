#!/usr/bin/env bash
# Installs core and edge, and nothing else of ours, into an environment of their own and runs their tests there:
# whatever the edge must not need would be missing.
set -euo pipefail
cd "$(dirname "$0")/.."
env=.venv-edge
if [ ! -e $env/.installed ] || [ requirements.lock -nt $env/.installed ] || [ edge/pyproject.toml -nt $env/.installed ] || [ shared/pyproject.toml -nt $env/.installed ]; then
  .venv/bin/uv venv --quiet --clear --python .venv/bin/python $env
  .venv/bin/uv pip install --quiet --python $env/bin/python --constraint requirements.lock \
    -e shared -e edge pytest pytest-asyncio hypothesis cryptography
  touch $env/.installed
fi
for heavy in pandas sklearn pandapower fastapi duckdb lightgbm onnx tieline_cloud tieline_sim; do
  if $env/bin/python -c "import $heavy" 2>/dev/null; then echo "$heavy can be imported in the edge's environment" >&2; exit 1; fi
done
$env/bin/python -m pytest -q -p no:cacheprovider tests/core tests/edge
