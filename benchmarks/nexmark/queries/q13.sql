-- Bids with what a file says of their auctions.
CREATE TABLE side_input (key BIGINT, `value` STRING) WITH (
  'connector.type' = 'filesystem', 'connector.path' = '${DIR}/side_input.txt', 'format.type' = 'csv'
);
CREATE TABLE q13 (auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), `value` STRING) WITH (${SINK});
INSERT INTO q13
SELECT b.auction, b.bidder, b.price, b.`dateTime`, s.`value`
FROM (SELECT *, PROCTIME() AS p_time FROM bid) AS b
JOIN side_input FOR SYSTEM_TIME AS OF b.p_time AS s
ON MOD(b.auction, 10000) = s.key;
