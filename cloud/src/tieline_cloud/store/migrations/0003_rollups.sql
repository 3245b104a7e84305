-- Roll-ups, folded from the ledger by position: minutes from readings, quarter-hours from minutes, hours and local days
-- from quarter-hours. Rows are only ever added: an interval may lie in several parts, which questions merge, so a late
-- reading is one more part and cannot destroy what was rolled up of readings that are long gone.
-- A row's position is the last one whose readings are in it. What follows from the other columns is null, so that a part of
-- a single reading takes little room: minimum, maximum and last where count is 1, good_total where good is 0 or count,
-- last_us where it is start_us.

-- count: readings with a number; total and good_total: their sum, and that of the good ones.
CREATE TABLE rollups_minute (
    point_id INTEGER NOT NULL,
    start_us BIGINT NOT NULL,
    count BIGINT NOT NULL,
    good BIGINT NOT NULL,
    minimum DOUBLE,
    maximum DOUBLE,
    total DOUBLE NOT NULL,
    good_total DOUBLE,
    last DOUBLE,
    last_us BIGINT,
    quality UTINYINT NOT NULL,
    position BIGINT NOT NULL
);

-- The same.
CREATE TABLE rollups_quarter (
    point_id INTEGER NOT NULL,
    start_us BIGINT NOT NULL,
    count BIGINT NOT NULL,
    good BIGINT NOT NULL,
    minimum DOUBLE,
    maximum DOUBLE,
    total DOUBLE NOT NULL,
    good_total DOUBLE,
    last DOUBLE,
    last_us BIGINT,
    quality UTINYINT NOT NULL,
    position BIGINT NOT NULL
);

-- The same.
CREATE TABLE rollups_hour (
    point_id INTEGER NOT NULL,
    start_us BIGINT NOT NULL,
    count BIGINT NOT NULL,
    good BIGINT NOT NULL,
    minimum DOUBLE,
    maximum DOUBLE,
    total DOUBLE NOT NULL,
    good_total DOUBLE,
    last DOUBLE,
    last_us BIGINT,
    quality UTINYINT NOT NULL,
    position BIGINT NOT NULL
);

-- The same.
CREATE TABLE rollups_day (
    point_id INTEGER NOT NULL,
    start_us BIGINT NOT NULL,
    count BIGINT NOT NULL,
    good BIGINT NOT NULL,
    minimum DOUBLE,
    maximum DOUBLE,
    total DOUBLE NOT NULL,
    good_total DOUBLE,
    last DOUBLE,
    last_us BIGINT,
    quality UTINYINT NOT NULL,
    position BIGINT NOT NULL
);

-- How far each level, and the table of last values, has come.
CREATE TABLE progress (
    name VARCHAR PRIMARY KEY,
    position BIGINT NOT NULL,
    at_us BIGINT NOT NULL
);
INSERT INTO progress VALUES ('1min', 0, 0), ('15min', 0, 0), ('1h', 0, 0), ('1d', 0, 0), ('last', 0, 0);

-- Last values up to their position in progress, so that a start reads only what came after.
CREATE TABLE last_values (
    point_id INTEGER NOT NULL,
    at_us BIGINT NOT NULL,
    value DOUBLE,
    quality UTINYINT NOT NULL
);

-- Single facts about the store, such as the time zone its days are made in.
CREATE TABLE facts (
    name VARCHAR PRIMARY KEY,
    body VARCHAR NOT NULL
);
-- Frames of the first release have no oldest instant and are looked for by their hash alone.
INSERT INTO facts SELECT 'first_release', 'true' WHERE EXISTS (SELECT 1 FROM frames);
