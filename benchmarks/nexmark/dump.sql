-- The events as three files of their own, for whoever answers the queries by other means.
CREATE TABLE dump_person (
  id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING, `dateTime` TIMESTAMP(3),
  extra STRING
) WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = '${DIR}/person');
CREATE TABLE dump_auction (
  id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, `dateTime` TIMESTAMP(3),
  expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING
) WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = '${DIR}/auction');
CREATE TABLE dump_bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING
) WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = '${DIR}/bid');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO dump_person SELECT * FROM person;
  INSERT INTO dump_auction SELECT * FROM auction;
  INSERT INTO dump_bid SELECT * FROM bid;
END;
