# SPDX-License-Identifier: Apache-2.0
"""Real work: an SQLite database of 50,000 rows: create, insert, index, query, check.

usage: database.py FILE
Prints one JSON object: rows, total (sum of the amounts), busiest (the highest account among those with
the most rows) and integrity (what PRAGMA integrity_check says).
"""

from __future__ import annotations

import json
import sqlite3
import sys

ROWS = 50_000
ACCOUNTS = 97


def main() -> None:
    database = sqlite3.connect(sys.argv[1])
    database.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT NULL, note TEXT)")
    with database:
        rows = ((number, number % ACCOUNTS, number * 7 % 1000, f"entry number {number}") for number in range(ROWS))
        database.executemany("INSERT INTO entry VALUES (?, ?, ?, ?)", rows)
    with database:
        database.execute("CREATE INDEX entry_account ON entry (account, amount)")
    rows_found, total = database.execute("SELECT count(*), sum(amount) FROM entry").fetchone()
    busiest = database.execute("SELECT account FROM entry GROUP BY account ORDER BY count(*) DESC, account DESC LIMIT 1").fetchone()[0]
    integrity = database.execute("PRAGMA integrity_check").fetchone()[0]
    database.close()
    print(json.dumps({"rows": rows_found, "total": total, "busiest": busiest, "integrity": integrity}))


main()
