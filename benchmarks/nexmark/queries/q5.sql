-- Auctions with the most bids of the last ten seconds, every two seconds.
CREATE TABLE q5 (auction BIGINT, num BIGINT) WITH (${SINK});
INSERT INTO q5
SELECT counted.auction, counted.num
FROM (
  SELECT auction, COUNT(*) AS num, window_start AS begins, window_end AS ends
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end
) AS counted
JOIN (
  SELECT MAX(num) AS most, begins, ends
  FROM (
    SELECT COUNT(*) AS num, window_start AS begins, window_end AS ends
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end
  )
  GROUP BY begins, ends
) AS best
ON counted.begins = best.begins AND counted.ends = best.ends AND counted.num >= best.most;
