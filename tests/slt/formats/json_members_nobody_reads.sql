-- Of rows only the members that some query reads are decoded: what stands in the others, or that nothing does, is nobody's
-- business. Two queries read different ones; where a row is asked for as such, all of it is read.
--! input t.jsonl
--| {"k": 1, "a": {"x": 1, "y": "bad", "z": {"p": 10, "q": true}}, "b": {"x": 5, "n": "one"}}
--| {"k": 2, "a": {"z": {"q": 1, "p": 20}, "x": 2}, "b": {"x": 6, "n": "two"}}
--| {"k": 1, "a": null, "b": {"n": "three", "x": 7}}
--| {"k": 2, "b": {"n": "four", "x": "8"}}
--| {"k": 3, "a": {"x": 3, "y": 4, "z": null}, "b": {"x": 9}}
--| {"k": 4, "a": {"x": "none"}, "b": {"x": 1, "n": "bad"}}
--! expect ones
--| 1 | 10
--| 2 | 20
--| NULL | NULL
--| NULL | NULL
--| 3 | NULL
--! expect twos
--| 14 | 6 | {"x":6,"n":"two"}
--| 16 | 8 | {"x":8,"n":"four"}
--! dead-letters 1
CREATE TABLE t (k INT, a ROW<x INT, y INT, z ROW<p INT, q INT>>, b ROW<x INT, n STRING>, twice AS b.x + 8)
  WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.jsonl');
CREATE VIEW seconds AS SELECT twice, b.x AS x, b FROM t WHERE k = 2;
CREATE TABLE ones (x INT, p INT) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'ones');
CREATE TABLE twos (t INT, x INT, b ROW<x INT, n STRING>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'twos');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO ones SELECT a.x, a.z.p FROM t;
  INSERT INTO twos SELECT * FROM seconds;
END;
