# sqlite3 with a rollback journal: transactions, an index, a rollback, vacuum, integrity_check, two writers.
sqlite3 db <<'SQL'
PRAGMA journal_mode = DELETE;
CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER);
BEGIN;
WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 20000)
INSERT INTO t SELECT i, 'name ' || (i * 7919 % 20000), i % 100 FROM s;
COMMIT;
CREATE INDEX t_name ON t (name);
BEGIN;
DELETE FROM t WHERE n < 50;
ROLLBACK;
SELECT count(*), sum(n) FROM t;
DELETE FROM t WHERE n = 1;
VACUUM;
PRAGMA integrity_check;
SQL
ls
for w in 1 2; do
    for i in $(seq 20); do
        sqlite3 -cmd '.timeout 20000' db "INSERT INTO t (name, n) VALUES ('writer $w', $i);"
    done &
done
wait
sqlite3 db "SELECT name, count(*), sum(n) FROM t WHERE name LIKE 'writer%' GROUP BY name ORDER BY name; PRAGMA integrity_check;"
sqlite3 db "SELECT * FROM t WHERE name NOT LIKE 'writer%' ORDER BY id" | sha256sum
ls
rm db
