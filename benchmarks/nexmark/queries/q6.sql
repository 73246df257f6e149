-- Average of what the last ten auctions of each seller brought. The published text averages with OVER over rows that
-- change, which no engine takes: here the last ten are kept as such, and the average of these is told.
CREATE TABLE q6 (seller BIGINT, avg_price BIGINT) WITH (${SINK});
INSERT INTO q6
SELECT seller, AVG(price)
FROM (
  SELECT seller, price, ROW_NUMBER() OVER (PARTITION BY seller ORDER BY expires DESC, id DESC) AS closed
  FROM (
    SELECT a.id, a.seller, a.expires, b.price,
      ROW_NUMBER() OVER (PARTITION BY a.id, a.seller ORDER BY b.price DESC, b.`dateTime`) AS won
    FROM auction AS a, bid AS b
    WHERE a.id = b.auction AND b.`dateTime` BETWEEN a.`dateTime` AND a.expires
  )
  WHERE won <= 1
)
WHERE closed <= 10
GROUP BY seller;
