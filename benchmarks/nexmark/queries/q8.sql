-- Who came and opened an auction within the same ten seconds.
CREATE TABLE q8 (id BIGINT, name STRING, stime TIMESTAMP(3)) WITH (${SINK});
INSERT INTO q8
SELECT p.id, p.name, p.begins
FROM (
  SELECT id, name, window_start AS begins, window_end AS ends
  FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY id, name, window_start, window_end
) AS p
JOIN (
  SELECT seller, window_start AS begins, window_end AS ends
  FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY seller, window_start, window_end
) AS a
ON p.id = a.seller AND p.begins = a.begins AND p.ends = a.ends;
