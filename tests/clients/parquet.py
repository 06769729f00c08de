"""Reads an export with duckdb and pyarrow: python parquet.py ROOT DEVICE SINCE UNTIL. One line of JSON."""

import datetime
import glob
import json
import os
import sys

import duckdb
import pyarrow.dataset
import pyarrow.parquet

ROOT, DEVICE, SINCE, UNTIL = sys.argv[1:5]
CLASSES = ["readings", "samples", "embeddings", "scores", "alerts", "contexts", "labels"]


def nanoseconds(text):
    time = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc)
    return int(time.timestamp()) * 1_000_000_000


def of_class(name):
    pattern = f"{ROOT}/class={name}/**/*.parquet"
    duck = duckdb.execute(f"select count(*), count(distinct device) from read_parquet('{pattern}', hive_partitioning = true)")
    dataset = pyarrow.dataset.dataset(f"{ROOT}/class={name}", partitioning="hive")
    table = dataset.to_table()
    first = sorted(glob.glob(pattern, recursive=True))[0]
    metadata = pyarrow.parquet.read_metadata(first).metadata
    return {
        "duckdb": duck.fetchone()[0],
        "pyarrow": table.num_rows,
        "columns": {field.name: str(field.type) for field in table.schema},
        "metadata": {key.decode(): value.decode() for key, value in metadata.items()},
    }


def query():
    """How many row groups of scores may hold rows of the device and the time, by path and statistics; and the rows that do."""
    since, until = nanoseconds(SINCE), nanoseconds(UNTIL)
    touched = total = 0
    for path in glob.glob(f"{ROOT}/class=scores/**/*.parquet", recursive=True):
        metadata = pyarrow.parquet.read_metadata(path)
        is_date = f"date={SINCE[:10]}" in path.split(os.sep)
        for group in range(metadata.num_row_groups):
            total += 1
            columns = (metadata.row_group(group).column(at) for at in range(metadata.num_columns))
            by_name = {column.path_in_schema: column for column in columns}
            device, time = by_name["device"].statistics, by_name["time"].statistics
            # In nanoseconds: pyarrow's own min and max are of microseconds.
            overlaps = device.min <= DEVICE <= device.max and time.min_raw < until and time.max_raw >= since
            touched += is_date and overlaps
    sql = f"""select count(*) from read_parquet('{ROOT}/class=scores/**/*.parquet', hive_partitioning = true)
              where device = '{DEVICE}' and time >= '{SINCE}+00' and time < '{UNTIL}+00'"""
    return {"row_groups": touched, "of": total, "rows": duckdb.execute(sql).fetchone()[0]}


print(json.dumps({"classes": {name: of_class(name) for name in CLASSES}, "query": query()}))
