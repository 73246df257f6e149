-- Two streams that meet in windows, in every kind of join there is, or where their times are near, and a table that is
-- looked up.
CREATE TABLE shown (
  id BIGINT,
  campaign INT,
  ts AS TO_TIMESTAMP_LTZ(id * 200, 3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH (
  'connector' = 'datagen', 'number-of-rows' = '2500', 'rows-per-second' = '750', 'seed' = '13',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '2500',
  'fields.campaign.min' = '1', 'fields.campaign.max' = '40'
);
CREATE TABLE clicked (
  id BIGINT,
  campaign INT,
  ts AS TO_TIMESTAMP_LTZ(id * 500, 3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'datagen', 'number-of-rows' = '1000', 'rows-per-second' = '300', 'seed' = '14',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '1000',
  'fields.campaign.min' = '1', 'fields.campaign.max' = '60'
);
CREATE TABLE both_seen (at TIMESTAMP_LTZ(3), campaign INT, shown BIGINT, clicked BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/both', 'format' = 'csv'
);
CREATE TABLE all_seen (at TIMESTAMP_LTZ(3), shown BIGINT, clicked BIGINT) WITH (
  'connector' = 'log', 'topic' = 'all', 'partitions' = '3'
);
CREATE TABLE ignored (at TIMESTAMP_LTZ(3), id BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/ignored', 'format' = 'json'
);
CREATE TABLE named (id BIGINT, owner STRING, tag STRING) WITH (
  'connector' = 'filesystem', 'path' = '/out/named', 'format' = 'parquet'
);
CREATE TABLE near (shown BIGINT, clicked BIGINT) WITH (
  'connector' = 'filesystem', 'path' = '/out/near', 'format' = 'csv'
);
CREATE TEMPORARY VIEW s AS SELECT * FROM TABLE(TUMBLE(TABLE shown, DESCRIPTOR(ts), INTERVAL '20' SECOND));
CREATE TEMPORARY VIEW c AS SELECT * FROM TABLE(TUMBLE(TABLE clicked, DESCRIPTOR(ts), INTERVAL '20' SECOND));
EXECUTE STATEMENT SET BEGIN
  INSERT INTO both_seen
    SELECT s.window_start, s.campaign, s.id, c.id FROM s JOIN c
      ON s.window_start = c.window_start AND s.window_end = c.window_end AND s.campaign = c.campaign;
  INSERT INTO all_seen
    SELECT COALESCE(s.window_start, c.window_start), s.id, c.id FROM s FULL JOIN c
      ON s.window_start = c.window_start AND s.window_end = c.window_end AND s.campaign = c.campaign;
  INSERT INTO ignored
    SELECT window_start, id FROM s WHERE NOT EXISTS (
      SELECT 1 FROM c
      WHERE s.window_start = c.window_start AND s.window_end = c.window_end AND s.campaign = c.campaign);
  INSERT INTO near
    SELECT s.id, c.id FROM shown AS s FULL JOIN clicked AS c
      ON s.campaign = c.campaign AND c.ts BETWEEN s.ts - INTERVAL '2' SECOND AND s.ts + INTERVAL '15' SECOND;
  INSERT INTO named
    SELECT shown.id, o.owner, tag FROM shown
      LEFT JOIN (VALUES (1, 'ada'), (2, 'bob'), (3, 'eve')) AS o (kind, owner) ON MOD(shown.campaign, 5) = o.kind
      CROSS JOIN UNNEST(ARRAY['a', 'b']) AS t (tag);
END;
