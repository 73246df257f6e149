-- Ingest: flights from a file into the log topic `departures`, four partitions, spread by carrier.
--
--   cargo run --quiet -- run examples/ingest.sql
--   cargo run --quiet -- run examples/from_topic.sql
--
-- The topic lives in the data folder (./qanat-data) and needs no broker. A finished job that is run again starts
-- anew and appends its rows a second time, as any second ingest would.

CREATE TABLE flights (
  carrier STRING,
  flight INT,
  origin STRING,
  dest STRING,
  dep_delay DOUBLE,
  time_hour TIMESTAMP(3)
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/data/flights-2013-01.csv.gz',
  'format' = 'csv',
  'csv.null-literal' = 'NA'
);

CREATE TABLE departures (
  carrier STRING,
  flight INT,
  origin STRING,
  dest STRING,
  dep_delay DOUBLE,
  time_hour TIMESTAMP(3)
) WITH (
  'connector' = 'log',
  'topic' = 'departures',
  'partitions' = '4',
  'key.fields' = 'carrier',
  'sink.event-time' = 'time_hour'
);

INSERT INTO departures
SELECT carrier, flight, origin, dest, dep_delay, time_hour FROM flights WHERE dep_delay IS NOT NULL;
