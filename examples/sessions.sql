-- The working sessions of each aircraft, January 2013: SESSION windows by tail number.
--
--   cargo run --quiet -- run examples/sessions.sql
--
-- A session is a chain of departures of one aircraft from New York with 12 hours at most between one and the next.
-- All sessions go to JSON lines in qanat-out/sessions/; the terminal shows the longest ones with the aircraft's
-- model, by lookup join (a LEFT JOIN: not every tail number is in the register).

CREATE TABLE flights (
  tailnum STRING,
  origin STRING,
  dest STRING,
  dep_delay DOUBLE,
  distance INT,
  time_hour TIMESTAMP(3),
  WATERMARK FOR time_hour AS time_hour - INTERVAL '24' HOUR
) WITH (
  'connector' = 'filesystem',
  'path' = 'examples/data/flights-2013-01.csv.gz',
  'format' = 'csv',
  'csv.null-literal' = 'NA'
);

CREATE TABLE planes (
  tailnum STRING,
  manufacturer STRING,
  model STRING,
  seats INT,
  PRIMARY KEY (tailnum) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'examples/data/planes.csv', 'format' = 'csv', 'csv.null-literal' = 'NA');

CREATE TABLE sessions (
  tailnum STRING,
  first_departure TIMESTAMP(3),
  last_departure TIMESTAMP(3),
  flights BIGINT,
  miles BIGINT
) WITH ('connector' = 'filesystem', 'path' = 'qanat-out/sessions', 'format' = 'json');

CREATE TEMPORARY VIEW flown AS
SELECT * FROM flights WHERE tailnum IS NOT NULL AND dep_delay IS NOT NULL;

CREATE TEMPORARY VIEW worked AS
SELECT tailnum, MIN(time_hour) AS first_departure, MAX(time_hour) AS last_departure,
       COUNT(*) AS flights, SUM(distance) AS miles, PROCTIME() AS seen_at
FROM TABLE(SESSION(TABLE flown PARTITION BY tailnum, DESCRIPTOR(time_hour), INTERVAL '12' HOUR))
GROUP BY tailnum, window_start, window_end;

INSERT OVERWRITE sessions
SELECT tailnum, first_departure, last_departure, flights, miles FROM worked;

SELECT w.tailnum, p.manufacturer, p.model, w.flights,
       DATE_FORMAT(w.first_departure, 'MM-dd HH:mm') AS first_departure,
       DATE_FORMAT(w.last_departure, 'MM-dd HH:mm') AS last_departure
FROM worked AS w
LEFT JOIN planes FOR SYSTEM_TIME AS OF w.seen_at AS p ON w.tailnum = p.tailnum
WHERE w.flights >= 8;
