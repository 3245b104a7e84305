-- Readings get the position of the commit they came with, so that they can be replayed in the order they were stored.
-- What the release before this one stored is numbered in the order it lies in, in pieces of about 100,000.
CREATE TABLE placed_readings (
    point_id INTEGER NOT NULL,
    at_us BIGINT NOT NULL,
    value DOUBLE,
    quality UTINYINT NOT NULL,
    position BIGINT NOT NULL
);
INSERT INTO placed_readings SELECT point_id, at_us, value, quality, rowid // 100000 + 1 FROM readings;
DROP VIEW readings_by_name;
DROP TABLE readings;
ALTER TABLE placed_readings RENAME TO readings;

CREATE VIEW readings_by_name AS
SELECT p.name AS point, make_timestamp(r.at_us) AS measured_at_utc, r.value, r.quality
FROM readings r JOIN points p ON p.id = r.point_id;

-- One row a commit that stored readings.
CREATE TABLE positions (
    position BIGINT NOT NULL,
    stored_at_us BIGINT NOT NULL,
    readings BIGINT NOT NULL
);
INSERT INTO positions
SELECT position, coalesce((SELECT max(received_at_us) FROM frames), max(at_us)), count(*) FROM readings GROUP BY 1 ORDER BY 1;

-- Oldest instant in a frame, by which both ends of the durable lane name its hour; null for a skip, for what could not be
-- read, and for frames of the release before this one. It also finds held content: zone maps over it take the place of an
-- index over hashes, which would grow with every frame.
DROP INDEX frames_by_content;
ALTER TABLE frames ADD COLUMN first_us BIGINT;

-- Verdicts of the rules of data quality; a null value had no number.
CREATE TABLE findings (
    point_id INTEGER NOT NULL,
    at_us BIGINT NOT NULL,
    received_at_us BIGINT NOT NULL,
    rule VARCHAR NOT NULL,
    value DOUBLE,
    bound DOUBLE
);

-- Readings whose instant is not believed.
CREATE TABLE misdated (
    point_id INTEGER NOT NULL,
    at_us BIGINT NOT NULL,
    received_at_us BIGINT NOT NULL,
    value DOUBLE,
    quality UTINYINT NOT NULL,
    rule VARCHAR NOT NULL
);

-- Of several estimates for a point and instant the one with the highest number counts.
CREATE SEQUENCE estimate_number;
CREATE TABLE estimates (
    number BIGINT NOT NULL DEFAULT nextval('estimate_number'),
    point_id INTEGER NOT NULL,
    at_us BIGINT NOT NULL,
    value DOUBLE NOT NULL,
    method VARCHAR NOT NULL,
    made_at_us BIGINT NOT NULL
);

-- Deliveries through the bulk doors, each once by its key.
CREATE TABLE deliveries (
    source VARCHAR NOT NULL,
    key VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    at_us BIGINT NOT NULL,
    readings BIGINT NOT NULL,
    PRIMARY KEY (source, key)
);
