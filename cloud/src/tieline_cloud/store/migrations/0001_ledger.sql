-- Points under dense numbers from 0.
CREATE TABLE points (
    id INTEGER PRIMARY KEY,
    name VARCHAR NOT NULL UNIQUE
);

-- Every reading once. Instants are microseconds since 1970 UTC; a null value is a reading without a number.
-- No index: zone maps over point and time do the work, and inserts stay append-only.
CREATE TABLE readings (
    point_id INTEGER NOT NULL,
    at_us BIGINT NOT NULL,
    value DOUBLE,
    quality UTINYINT NOT NULL
);

CREATE VIEW readings_by_name AS
SELECT p.name AS point, make_timestamp(r.at_us) AS measured_at_utc, r.value, r.quality
FROM readings r JOIN points p ON p.id = r.point_id;

-- The epoch in force for each edge.
CREATE TABLE epochs (
    edge VARCHAR PRIMARY KEY,
    epoch BIGINT NOT NULL,
    granted_at_us BIGINT NOT NULL
);

-- One watermark a stream, moved by compare-and-set in the transaction of the frames.
CREATE TABLE marks (
    edge VARCHAR NOT NULL,
    stream VARCHAR NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    sha256 VARCHAR,
    PRIMARY KEY (edge, stream)
);

-- Every frame that moved a watermark; content is recognised across epochs by its hash.
CREATE TABLE frames (
    edge VARCHAR NOT NULL,
    stream VARCHAR NOT NULL,
    epoch BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    readings INTEGER NOT NULL,
    verdict VARCHAR NOT NULL,
    received_at_us BIGINT NOT NULL
);
CREATE INDEX frames_by_content ON frames (sha256);

CREATE TABLE skips (
    edge VARCHAR NOT NULL,
    stream VARCHAR NOT NULL,
    epoch BIGINT NOT NULL,
    received_at_us BIGINT NOT NULL,
    body VARCHAR NOT NULL
);

CREATE TABLE events (
    event_id VARCHAR PRIMARY KEY,
    edge VARCHAR NOT NULL,
    at_us BIGINT NOT NULL,
    severity VARCHAR NOT NULL,
    code VARCHAR NOT NULL,
    body VARCHAR NOT NULL
);

CREATE TABLE forecasts (
    point VARCHAR NOT NULL,
    issued_at_us BIGINT NOT NULL,
    start_us BIGINT NOT NULL,
    model_id VARCHAR NOT NULL,
    body VARCHAR NOT NULL
);

CREATE SEQUENCE quarantine_number;
CREATE TABLE quarantine (
    number BIGINT NOT NULL DEFAULT nextval('quarantine_number'),
    at_us BIGINT NOT NULL,
    edge VARCHAR NOT NULL,
    topic VARCHAR NOT NULL,
    size INTEGER NOT NULL,
    payload BLOB NOT NULL,
    reason VARCHAR NOT NULL
);

CREATE TABLE imports (
    at_us BIGINT NOT NULL,
    source VARCHAR NOT NULL,
    offered INTEGER NOT NULL,
    stored INTEGER NOT NULL
);

CREATE TABLE documents (
    kind VARCHAR NOT NULL,
    key VARCHAR NOT NULL,
    at_us BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, key)
);
