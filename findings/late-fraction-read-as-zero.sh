#!/usr/bin/env bash
# DuckDB 2.0.1, polars 2.1.0: a number with a fraction that comes late is read as 0, and nobody is told.
#
# A log of runs as JSON Lines has the cost of each, 0 for models that cost nothing, a fraction of a dollar for others.
# Expected: the sum of the costs, or an error. Seen: both decide on a column of integers by the first rows (DuckDB by
# 20,480, polars from dictionaries by 100), and then round what follows. DuckDB's sum of 5,000 times 0.4 is 0, and so
# is that of polars. With 0.0 in the place of 0 both are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet duckdb==2.0.1 polars==2.1.0
venv/bin/python - <<'PY'
import json
import sys

import duckdb
import polars


def rows(nothing, before, after):
    return [{"run": n, "cost": nothing if n < before else 0.4} for n in range(before + after)]


def duckdb_sum(nothing):
    with open("runs.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(nothing, 25_000, 5_000))
    return duckdb.sql("SELECT round(sum(cost), 6), any_value(typeof(cost)) FROM read_json('runs.jsonl')").fetchall()[0]


def polars_sum(nothing):
    cost = polars.DataFrame(rows(nothing, 150, 50))["cost"]
    return round(float(cost.sum()), 6), str(cost.dtype)


seen = {
    f"{name}, costs begin with {nothing}": read(nothing)
    for name, read in (("DuckDB", duckdb_sum), ("polars", polars_sum))
    for nothing in (0, 0.0)
}
wanted = {
    "DuckDB, costs begin with 0": (0, "BIGINT"),
    "DuckDB, costs begin with 0.0": (2000.0, "DOUBLE"),
    "polars, costs begin with 0": (0, "Int64"),
    "polars, costs begin with 0.0": (20.0, "Float64"),
}
print(f"DuckDB {duckdb.__version__}, polars {polars.__version__}")
for what, (total, kind) in seen.items():
    print(f"{what}: the sum is {total}, the column {kind}")
sys.exit(seen != wanted)
PY
