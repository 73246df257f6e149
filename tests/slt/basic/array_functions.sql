-- NULL is an element like others, a NULL array gives NULL, and places are counted from 1.
--! input t.json
--| {"id":1,"a":[1,2,1,null]}
--| {"id":2,"a":[]}
--| {"id":3,"a":null}
--! expect out
--| 1 | [2,null] | [1,2,1] | 0 | 1 | true | [2,1,1,null] | [null,1,1,2] | [1,null] | [2,1,2,1,null] | [1,2,1,null,5] | [1,2,1,null,7,1,2,1,null] | [1,1,2,null] | [1,2]
--| 2 | [] | [] | 0 | 0 | false | [] | [] | [] | [2] | [5] | [7] | [] | []
--| 3 | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL
CREATE TABLE t (id INT, a ARRAY<INT>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 't.json');
CREATE TABLE o (id INT, r1 ARRAY<INT>, r2 ARRAY<INT>, p1 INT, p2 INT, c BOOLEAN, s1 ARRAY<INT>, s2 ARRAY<INT>, l ARRAY<INT>, pre ARRAY<INT>, app ARRAY<INT>, con ARRAY<INT>, s3 ARRAY<INT>, l2 ARRAY<INT>) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'out');
INSERT INTO o SELECT id, ARRAY_REMOVE(a, 1), ARRAY_REMOVE(a, NULL), ARRAY_POSITION(a, 5), ARRAY_POSITION(a, 1), ARRAY_CONTAINS(a, NULL), ARRAY_SORT(a, FALSE), ARRAY_SORT(a), ARRAY_SLICE(a, -2), ARRAY_PREPEND(a, 2), ARRAY_APPEND(a, 5), ARRAY_CONCAT(a, ARRAY[CAST(7 AS INT)], a), ARRAY_SORT(a, TRUE, FALSE), ARRAY_SLICE(a, 0, 2) FROM t;
