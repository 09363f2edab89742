"""DuckDB with one thread, counting both columns of a CSV file; without a file, what starting it costs."""

import sys

import duckdb

connection = duckdb.connect()
connection.execute("SET threads = 1")
if sys.argv[1]:
    counted = "SELECT count(a), count(b) FROM read_csv(?, header = false, names = ['a', 'b'])"
    print(connection.execute(counted, [sys.argv[1]]).fetchall())
