-- Points under dense numbers from 0, given out under the lock of the ledger row.
CREATE TABLE points (
    id integer PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- One row. Whoever stores readings locks it last and holds it to the end of the transaction, so that positions become
-- visible in their order and no reader of positions ever passes one over.
CREATE TABLE ledger (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL,
    readings bigint NOT NULL,
    frames bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO ledger VALUES (true, 0, 0, 0);

-- Readings of one edge and one UTC day that came with one commit, compressed (see postgres_chunks.py). Instants are
-- microseconds since 1970 UTC. The body is compressed already, so the server keeps it as it is.
CREATE TABLE chunks (
    position bigint NOT NULL,
    first_us bigint NOT NULL,
    last_us bigint NOT NULL,
    received_us bigint NOT NULL,
    day date NOT NULL,
    rows integer NOT NULL,
    first_number integer NOT NULL,
    last_number integer NOT NULL,
    edge text COLLATE "C" NOT NULL,
    body bytea NOT NULL
) PARTITION BY RANGE (day);
ALTER TABLE chunks ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX chunks_by_edge ON chunks (edge, first_us);
CREATE INDEX chunks_by_position ON chunks USING brin (position) WITH (pages_per_range = 8, autosummarize = on);
-- Days far from the day of receipt, which a broken clock can make many of, get no partition of their own.
CREATE TABLE chunks_far PARTITION OF chunks DEFAULT;

-- The epoch in force for each edge.
CREATE TABLE epochs (
    edge text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    granted_at_us bigint NOT NULL
);

-- One watermark a stream, locked in the order of the key and moved by compare-and-set in the transaction of the frames.
CREATE TABLE marks (
    edge text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    sha256 bytea,
    PRIMARY KEY (edge, stream)
) WITH (fillfactor = 50);

-- Every frame that moved a watermark; content is recognised across epochs by its hash.
CREATE TABLE frames (
    epoch bigint NOT NULL,
    first_seq bigint NOT NULL,
    seq bigint NOT NULL,
    received_at_us bigint NOT NULL,
    readings integer NOT NULL,
    edge text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    verdict text COLLATE "C" NOT NULL,
    sha256 bytea NOT NULL
);
CREATE INDEX frames_by_content ON frames (sha256);
CREATE UNIQUE INDEX frames_by_label ON frames (edge, stream, epoch, seq);

CREATE TABLE skips (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    edge text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    received_at_us bigint NOT NULL,
    body text NOT NULL
);

CREATE TABLE events (
    event_id text COLLATE "C" PRIMARY KEY,
    edge text COLLATE "C" NOT NULL,
    at_us bigint NOT NULL,
    severity text NOT NULL,
    code text NOT NULL,
    body text NOT NULL
);
CREATE INDEX events_by_time ON events (at_us, event_id);

-- A forecast is known by its key, so that storing it again after a lost answer changes nothing.
CREATE TABLE forecasts (
    point text COLLATE "C" NOT NULL,
    issued_at_us bigint NOT NULL,
    model_id text COLLATE "C" NOT NULL,
    start_us bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (point, issued_at_us, model_id, start_us)
);

CREATE TABLE quarantine (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_us bigint NOT NULL,
    edge text NOT NULL,
    topic text NOT NULL,
    size integer NOT NULL,
    payload bytea NOT NULL,
    reason text NOT NULL
);

CREATE TABLE imports (
    at_us bigint NOT NULL,
    source text NOT NULL,
    offered integer NOT NULL,
    stored integer NOT NULL
);

CREATE TABLE documents (
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    at_us bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (kind, key)
);

-- Last values as of a position, in chunks: what comes after it is read from the chunks of readings when a hub starts.
CREATE TABLE last_values (
    part integer PRIMARY KEY,
    position bigint NOT NULL,
    body bytea NOT NULL
);
ALTER TABLE last_values ALTER COLUMN body SET STORAGE EXTERNAL;
