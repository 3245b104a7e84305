-- Roll-ups as rows anybody can read with SQL. Hours and local days are kept up to date from the chunks by position;
-- minutes and quarter-hours are worked out of the chunks when they are asked for, and written here when retention drops
-- the chunks they come from. One row an interval: count = readings with a number; total and good_total = their sum, and that of
-- the good ones.
-- With the extension TimescaleDB in the database the tables are hypertables, else partitions a month.
DO $$
DECLARE
    name text;
    timescale boolean := EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb');
BEGIN
    FOREACH name IN ARRAY ARRAY['rollups_minute', 'rollups_quarter', 'rollups_hour', 'rollups_day'] LOOP
        EXECUTE format(
            'CREATE TABLE %I (start_at timestamptz NOT NULL, last_at timestamptz, minimum double precision, '
            'maximum double precision, total double precision NOT NULL, good_total double precision NOT NULL, last double precision, point_id integer NOT NULL, '
            'count integer NOT NULL, good integer NOT NULL, quality smallint NOT NULL, PRIMARY KEY (point_id, start_at)) %s',
            name, CASE WHEN timescale THEN '' ELSE 'PARTITION BY RANGE (start_at)' END);
        IF timescale THEN
            PERFORM create_hypertable(name::regclass, 'start_at', chunk_time_interval => INTERVAL '7 days');
        ELSE
            EXECUTE format('CREATE INDEX %I ON %I USING brin (start_at) WITH (autosummarize = on)', name || '_by_start', name);
            EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', name || '_far', name);
        END IF;
    END LOOP;
END
$$;

-- Position up to which the chunks are in a level; it stays 0 in those that are worked out on demand.
CREATE TABLE progress (
    level text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL
);
INSERT INTO progress VALUES ('1min', 0), ('15min', 0), ('1h', 0), ('1d', 0);

-- The policy retention went by last, and when: levels worked out on demand show no more than it left of them.
CREATE TABLE retention (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    at_us bigint NOT NULL,
    policy text NOT NULL
);

CREATE VIEW rollups_by_name AS
SELECT r.level, p.name AS point, r.start_at, r.count, r.good, r.minimum, r.maximum,
    r.total / nullif(r.count, 0) AS mean, r.last, r.quality
FROM (
    SELECT '1min' AS level, * FROM rollups_minute
    UNION ALL SELECT '15min', * FROM rollups_quarter
    UNION ALL SELECT '1h', * FROM rollups_hour
    UNION ALL SELECT '1d', * FROM rollups_day
) r JOIN points p ON p.id = r.point_id;
