-- Average of the highest bids of each category.
CREATE TABLE q4 (id BIGINT, final BIGINT) WITH (${SINK});
INSERT INTO q4
SELECT category, AVG(best)
FROM (
  SELECT MAX(b.price) AS best, a.category
  FROM auction AS a, bid AS b
  WHERE a.id = b.auction AND b.`dateTime` BETWEEN a.`dateTime` AND a.expires
  GROUP BY a.id, a.category
)
GROUP BY category;
