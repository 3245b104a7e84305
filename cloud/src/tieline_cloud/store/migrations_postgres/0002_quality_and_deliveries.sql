-- Oldest instant in a frame, by which both ends of the durable lane name its hour; null for a skip, for what could not be
-- read, and for frames of the release before this one.
ALTER TABLE frames ADD COLUMN first_us bigint;
CREATE INDEX frames_by_hour ON frames (edge, stream, first_us) WHERE first_us IS NOT NULL;

-- What each position holds, so that a replay knows in which days to look.
CREATE TABLE positions (
    position bigint PRIMARY KEY,
    stored_at_us bigint NOT NULL,
    rows integer NOT NULL,
    first_day date NOT NULL,
    last_day date NOT NULL
);
INSERT INTO positions
SELECT position, max(received_us), sum(rows), min(day), max(day) FROM chunks GROUP BY position ORDER BY position;

-- Verdicts of the rules of data quality; a null value had no number.
CREATE TABLE findings (
    at_us bigint NOT NULL,
    received_at_us bigint NOT NULL,
    value double precision,
    bound double precision,
    point_id integer NOT NULL,
    rule text COLLATE "C" NOT NULL
);
CREATE INDEX findings_by_time ON findings (at_us);

-- Readings whose instant is not believed.
CREATE TABLE misdated (
    at_us bigint NOT NULL,
    received_at_us bigint NOT NULL,
    value double precision,
    point_id integer NOT NULL,
    quality smallint NOT NULL,
    rule text COLLATE "C" NOT NULL
);
CREATE INDEX misdated_by_arrival ON misdated (received_at_us);

CREATE TABLE estimates (
    point_id integer NOT NULL,
    at_us bigint NOT NULL,
    value double precision NOT NULL,
    method text COLLATE "C" NOT NULL,
    made_at_us bigint NOT NULL,
    PRIMARY KEY (point_id, at_us)
);

-- Deliveries through the bulk doors, each once by its key.
CREATE TABLE deliveries (
    source text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    at_us bigint NOT NULL,
    readings bigint NOT NULL,
    PRIMARY KEY (source, key)
);
