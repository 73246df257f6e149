-- The events of the benchmark, and one view for each of their kinds. ${SOURCE}: the options of the table, of the
-- `nexmark` connector or of files that hold such events.
CREATE TABLE events (
  event_type INT,
  person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
             `dateTime` TIMESTAMP(3), extra STRING>,
  auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT,
              `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING>,
  `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime`
                     WHEN event_type = 1 THEN auction.`dateTime`
                     ELSE bid.`dateTime` END,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
) WITH (${SOURCE});
CREATE TEMPORARY VIEW person AS
  SELECT person.id, person.name, person.emailAddress, person.creditCard, person.city, person.state, `dateTime`,
         person.extra
  FROM events WHERE event_type = 0;
CREATE TEMPORARY VIEW auction AS
  SELECT auction.id, auction.itemName, auction.description, auction.initialBid, auction.reserve, `dateTime`,
         auction.expires, auction.seller, auction.category, auction.extra
  FROM events WHERE event_type = 1;
CREATE TEMPORARY VIEW bid AS
  SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, `dateTime`, bid.extra
  FROM events WHERE event_type = 2;
