-- A store of revision 1003 (TimescaleDB), as the versions before 1004 made it; with rows. It never changes.
-- A line of two dashes stands between two statements.
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))
--
INSERT INTO alembic_version VALUES ('1003')
--
CREATE SEQUENCE trades_id_seq AS bigint INCREMENT BY 1 MINVALUE -9223372036854775808 MAXVALUE -1 START WITH -9223372036854775808
--
CREATE TABLE trades (
	id BIGINT DEFAULT nextval('trades_id_seq') NOT NULL, 
	symbol VARCHAR(20) NOT NULL, 
	timestamp TIMESTAMP WITH TIME ZONE NOT NULL, 
	price NUMERIC(20, 10) NOT NULL, 
	volume NUMERIC(38, 10) NOT NULL, 
	side VARCHAR(4) NOT NULL, 
	order_type VARCHAR(10), 
	misc VARCHAR(50), 
	CONSTRAINT pk_trades PRIMARY KEY (timestamp, symbol, id)
)
--
ALTER SEQUENCE trades_id_seq OWNED BY trades.id
--
CREATE INDEX ix_trades_symbol_timestamp ON trades (symbol, timestamp DESC)
--
CREATE TABLE candles (
	symbol VARCHAR(20) NOT NULL, 
	timestamp TIMESTAMP WITH TIME ZONE NOT NULL, 
	interval_minutes SMALLINT NOT NULL, 
	open NUMERIC(20, 10) NOT NULL, 
	high NUMERIC(20, 10) NOT NULL, 
	low NUMERIC(20, 10) NOT NULL, 
	close NUMERIC(20, 10) NOT NULL, 
	volume NUMERIC(38, 10) NOT NULL, 
	quote_volume NUMERIC(38, 10), 
	trade_count INTEGER, 
	vwap NUMERIC(20, 10), 
	CONSTRAINT pk_candles PRIMARY KEY (timestamp, symbol, interval_minutes)
)
--
CREATE INDEX ix_candles_symbol_interval_minutes_timestamp ON candles (symbol, interval_minutes, timestamp DESC)
--
CREATE TABLE rolled_candles (
	symbol VARCHAR(20) NOT NULL, 
	interval_minutes SMALLINT NOT NULL, 
	timestamp TIMESTAMP WITH TIME ZONE NOT NULL, 
	open NUMERIC(20, 10) NOT NULL, 
	high NUMERIC(20, 10) NOT NULL, 
	low NUMERIC(20, 10) NOT NULL, 
	close NUMERIC(20, 10) NOT NULL, 
	volume NUMERIC(38, 10) NOT NULL, 
	quote_volume NUMERIC(38, 10), 
	trade_count INTEGER, 
	vwap NUMERIC(20, 10), 
	kept BOOLEAN DEFAULT false NOT NULL, 
	CONSTRAINT pk_rolled_candles PRIMARY KEY (symbol, interval_minutes, timestamp)
)
--
CREATE TABLE data_sync_status (
	symbol VARCHAR(20) NOT NULL, 
	data_type VARCHAR(20) NOT NULL, 
	oldest_timestamp TIMESTAMP WITH TIME ZONE, 
	newest_timestamp TIMESTAMP WITH TIME ZONE, 
	last_sync_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, 
	last_kraken_since BIGINT, 
	total_records BIGINT DEFAULT 0 NOT NULL, 
	ended_at TIMESTAMP WITH TIME ZONE, 
	CONSTRAINT pk_data_sync_status PRIMARY KEY (symbol, data_type)
)
--
CREATE TABLE data_coverage (
	symbol VARCHAR(20) NOT NULL, 
	data_type VARCHAR(20) NOT NULL, 
	source VARCHAR(20) NOT NULL, 
	covered TSTZMULTIRANGE NOT NULL, 
	CONSTRAINT pk_data_coverage PRIMARY KEY (symbol, data_type, source)
)
--
CREATE TABLE unproven_ranges (
	symbol VARCHAR(20) NOT NULL, 
	data_type VARCHAR(20) NOT NULL, 
	unproven TSTZMULTIRANGE NOT NULL, 
	CONSTRAINT pk_unproven_ranges PRIMARY KEY (symbol, data_type)
)
--
CREATE TABLE dropped_ranges (
	symbol VARCHAR(20) NOT NULL, 
	data_type VARCHAR(20) NOT NULL, 
	dropped TSTZMULTIRANGE NOT NULL, 
	CONSTRAINT pk_dropped_ranges PRIMARY KEY (symbol, data_type)
)
--
CREATE TABLE pending_refresh (
	symbol VARCHAR(20) NOT NULL, 
	id BIGINT GENERATED ALWAYS AS IDENTITY, 
	stale TSTZRANGE NOT NULL, 
	refreshed_at TIMESTAMP WITH TIME ZONE, 
	CONSTRAINT pk_pending_refresh PRIMARY KEY (symbol, id)
)
--
CREATE TABLE retention_periods (
	table_name VARCHAR(20) NOT NULL, 
	kept_for INTERVAL NOT NULL, 
	CONSTRAINT pk_retention_periods PRIMARY KEY (table_name)
)
--
CREATE TABLE paused_jobs (
	job_id INTEGER NOT NULL, 
	CONSTRAINT pk_paused_jobs PRIMARY KEY (job_id)
)
--
CREATE TABLE flush_positions (
	stream UUID NOT NULL, 
	position BIGINT NOT NULL, 
	flushed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, 
	CONSTRAINT pk_flush_positions PRIMARY KEY (stream)
)
--
CREATE TABLE running_jobs (
	id UUID NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	symbols TEXT[] NOT NULL, 
	behind TEXT[] NOT NULL, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, 
	heard_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, 
	ended_at TIMESTAMP WITH TIME ZONE, 
	state TEXT NOT NULL, 
	last_error TEXT, 
	CONSTRAINT pk_running_jobs PRIMARY KEY (id)
)
--
SELECT create_hypertable('trades', 'timestamp', chunk_time_interval => INTERVAL '1 day', create_default_indexes => false)
--
SELECT create_hypertable('candles', 'timestamp', chunk_time_interval => INTERVAL '7 days', create_default_indexes => false)
--
ALTER TABLE trades SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = 'timestamp DESC, id DESC')
--
SELECT add_compression_policy('trades', INTERVAL '7 days')
--
ALTER TABLE candles SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol, interval_minutes', timescaledb.compress_orderby = 'timestamp DESC')
--
SELECT add_compression_policy('candles', INTERVAL '30 days')
--
CREATE MATERIALIZED VIEW candles_5m WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS SELECT symbol, time_bucket(INTERVAL '5 minutes', timestamp) AS timestamp, CAST(5 AS smallint) AS interval_minutes, CAST(first(open, timestamp) AS numeric(20,10)) AS open, CAST(max(high) AS numeric(20,10)) AS high, CAST(min(low) AS numeric(20,10)) AS low, CAST(last(close, timestamp) AS numeric(20,10)) AS close, CAST(sum(volume) AS numeric(38,10)) AS volume, CAST(CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS numeric(38,10)) AS quote_volume, CAST(sum(trade_count) AS integer) AS trade_count, CAST(CASE WHEN count(*) FILTER (WHERE volume > 0 AND vwap IS NULL) = 0 THEN sum(vwap * volume) / NULLIF(sum(volume), 0) END AS numeric(20,10)) AS vwap FROM candles WHERE interval_minutes = 1 GROUP BY symbol, time_bucket(INTERVAL '5 minutes', timestamp) WITH NO DATA
--
SELECT add_continuous_aggregate_policy('candles_5m', start_offset => INTERVAL '3 days', end_offset => INTERVAL '5 minutes', schedule_interval => INTERVAL '5 minutes')
--
CREATE MATERIALIZED VIEW candles_15m WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS SELECT symbol, time_bucket(INTERVAL '15 minutes', timestamp) AS timestamp, CAST(15 AS smallint) AS interval_minutes, CAST(first(open, timestamp) AS numeric(20,10)) AS open, CAST(max(high) AS numeric(20,10)) AS high, CAST(min(low) AS numeric(20,10)) AS low, CAST(last(close, timestamp) AS numeric(20,10)) AS close, CAST(sum(volume) AS numeric(38,10)) AS volume, CAST(CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS numeric(38,10)) AS quote_volume, CAST(sum(trade_count) AS integer) AS trade_count, CAST(CASE WHEN count(*) FILTER (WHERE volume > 0 AND vwap IS NULL) = 0 THEN sum(vwap * volume) / NULLIF(sum(volume), 0) END AS numeric(20,10)) AS vwap FROM candles WHERE interval_minutes = 1 GROUP BY symbol, time_bucket(INTERVAL '15 minutes', timestamp) WITH NO DATA
--
SELECT add_continuous_aggregate_policy('candles_15m', start_offset => INTERVAL '3 days', end_offset => INTERVAL '15 minutes', schedule_interval => INTERVAL '15 minutes')
--
CREATE MATERIALIZED VIEW candles_30m WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS SELECT symbol, time_bucket(INTERVAL '30 minutes', timestamp) AS timestamp, CAST(30 AS smallint) AS interval_minutes, CAST(first(open, timestamp) AS numeric(20,10)) AS open, CAST(max(high) AS numeric(20,10)) AS high, CAST(min(low) AS numeric(20,10)) AS low, CAST(last(close, timestamp) AS numeric(20,10)) AS close, CAST(sum(volume) AS numeric(38,10)) AS volume, CAST(CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS numeric(38,10)) AS quote_volume, CAST(sum(trade_count) AS integer) AS trade_count, CAST(CASE WHEN count(*) FILTER (WHERE volume > 0 AND vwap IS NULL) = 0 THEN sum(vwap * volume) / NULLIF(sum(volume), 0) END AS numeric(20,10)) AS vwap FROM candles WHERE interval_minutes = 1 GROUP BY symbol, time_bucket(INTERVAL '30 minutes', timestamp) WITH NO DATA
--
SELECT add_continuous_aggregate_policy('candles_30m', start_offset => INTERVAL '3 days', end_offset => INTERVAL '30 minutes', schedule_interval => INTERVAL '30 minutes')
--
CREATE MATERIALIZED VIEW candles_1h WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS SELECT symbol, time_bucket(INTERVAL '1 hour', timestamp) AS timestamp, CAST(60 AS smallint) AS interval_minutes, CAST(first(open, timestamp) AS numeric(20,10)) AS open, CAST(max(high) AS numeric(20,10)) AS high, CAST(min(low) AS numeric(20,10)) AS low, CAST(last(close, timestamp) AS numeric(20,10)) AS close, CAST(sum(volume) AS numeric(38,10)) AS volume, CAST(CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS numeric(38,10)) AS quote_volume, CAST(sum(trade_count) AS integer) AS trade_count, CAST(CASE WHEN count(*) FILTER (WHERE volume > 0 AND vwap IS NULL) = 0 THEN sum(vwap * volume) / NULLIF(sum(volume), 0) END AS numeric(20,10)) AS vwap FROM candles WHERE interval_minutes = 1 GROUP BY symbol, time_bucket(INTERVAL '1 hour', timestamp) WITH NO DATA
--
SELECT add_continuous_aggregate_policy('candles_1h', start_offset => INTERVAL '3 days', end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '1 hour')
--
CREATE MATERIALIZED VIEW candles_4h WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS SELECT symbol, time_bucket(INTERVAL '4 hours', timestamp) AS timestamp, CAST(240 AS smallint) AS interval_minutes, CAST(first(open, timestamp) AS numeric(20,10)) AS open, CAST(max(high) AS numeric(20,10)) AS high, CAST(min(low) AS numeric(20,10)) AS low, CAST(last(close, timestamp) AS numeric(20,10)) AS close, CAST(sum(volume) AS numeric(38,10)) AS volume, CAST(CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS numeric(38,10)) AS quote_volume, CAST(sum(trade_count) AS integer) AS trade_count, CAST(CASE WHEN count(*) FILTER (WHERE volume > 0 AND vwap IS NULL) = 0 THEN sum(vwap * volume) / NULLIF(sum(volume), 0) END AS numeric(20,10)) AS vwap FROM candles_1h GROUP BY symbol, time_bucket(INTERVAL '4 hours', timestamp) WITH NO DATA
--
SELECT add_continuous_aggregate_policy('candles_4h', start_offset => INTERVAL '7 days', end_offset => INTERVAL '4 hours', schedule_interval => INTERVAL '4 hours')
--
CREATE MATERIALIZED VIEW candles_12h WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS SELECT symbol, time_bucket(INTERVAL '12 hours', timestamp) AS timestamp, CAST(720 AS smallint) AS interval_minutes, CAST(first(open, timestamp) AS numeric(20,10)) AS open, CAST(max(high) AS numeric(20,10)) AS high, CAST(min(low) AS numeric(20,10)) AS low, CAST(last(close, timestamp) AS numeric(20,10)) AS close, CAST(sum(volume) AS numeric(38,10)) AS volume, CAST(CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS numeric(38,10)) AS quote_volume, CAST(sum(trade_count) AS integer) AS trade_count, CAST(CASE WHEN count(*) FILTER (WHERE volume > 0 AND vwap IS NULL) = 0 THEN sum(vwap * volume) / NULLIF(sum(volume), 0) END AS numeric(20,10)) AS vwap FROM candles_1h GROUP BY symbol, time_bucket(INTERVAL '12 hours', timestamp) WITH NO DATA
--
SELECT add_continuous_aggregate_policy('candles_12h', start_offset => INTERVAL '7 days', end_offset => INTERVAL '12 hours', schedule_interval => INTERVAL '12 hours')
--
CREATE MATERIALIZED VIEW candles_1d WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS SELECT symbol, time_bucket(INTERVAL '1 day', timestamp) AS timestamp, CAST(1440 AS smallint) AS interval_minutes, CAST(first(open, timestamp) AS numeric(20,10)) AS open, CAST(max(high) AS numeric(20,10)) AS high, CAST(min(low) AS numeric(20,10)) AS low, CAST(last(close, timestamp) AS numeric(20,10)) AS close, CAST(sum(volume) AS numeric(38,10)) AS volume, CAST(CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS numeric(38,10)) AS quote_volume, CAST(sum(trade_count) AS integer) AS trade_count, CAST(CASE WHEN count(*) FILTER (WHERE volume > 0 AND vwap IS NULL) = 0 THEN sum(vwap * volume) / NULLIF(sum(volume), 0) END AS numeric(20,10)) AS vwap FROM candles_1h GROUP BY symbol, time_bucket(INTERVAL '1 day', timestamp) WITH NO DATA
--
SELECT add_continuous_aggregate_policy('candles_1d', start_offset => INTERVAL '14 days', end_offset => INTERVAL '1 day', schedule_interval => INTERVAL '1 day')
--
CREATE MATERIALIZED VIEW candles_1w WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS SELECT symbol, time_bucket(INTERVAL '7 days', timestamp) AS timestamp, CAST(10080 AS smallint) AS interval_minutes, CAST(first(open, timestamp) AS numeric(20,10)) AS open, CAST(max(high) AS numeric(20,10)) AS high, CAST(min(low) AS numeric(20,10)) AS low, CAST(last(close, timestamp) AS numeric(20,10)) AS close, CAST(sum(volume) AS numeric(38,10)) AS volume, CAST(CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS numeric(38,10)) AS quote_volume, CAST(sum(trade_count) AS integer) AS trade_count, CAST(CASE WHEN count(*) FILTER (WHERE volume > 0 AND vwap IS NULL) = 0 THEN sum(vwap * volume) / NULLIF(sum(volume), 0) END AS numeric(20,10)) AS vwap FROM candles_1d GROUP BY symbol, time_bucket(INTERVAL '7 days', timestamp) WITH NO DATA
--
SELECT add_continuous_aggregate_policy('candles_1w', start_offset => INTERVAL '35 days', end_offset => INTERVAL '7 days', schedule_interval => INTERVAL '7 days')
--
SELECT add_retention_policy('trades', INTERVAL '100 years')
--
INSERT INTO trades SELECT (CAST('(-9223372036854775806,ETH/USD,"2023-01-03 00:00:00+00",11.5000000000,2.0000000000,"",,)' AS trades)).*
--
INSERT INTO trades SELECT (CAST('(-9223372036854775807,ETH/USD,"2023-01-02 00:00:00+00",10.5000000000,0.0000000100,"",,)' AS trades)).*
--
INSERT INTO trades SELECT (CAST('(-9223372036854775808,ETH/USD,"2023-01-02 00:00:00+00",10.5000000000,0.0000000100,"",,)' AS trades)).*
--
INSERT INTO trades SELECT (CAST('(1,BTC/USD,"2023-01-02 00:00:10.25+00",100.0000000000,0.5000000000,buy,market,"")' AS trades)).*
--
INSERT INTO trades SELECT (CAST('(2,BTC/USD,"2023-01-02 00:00:50+00",104.0000000000,1.5000000000,sell,limit,"")' AS trades)).*
--
INSERT INTO trades SELECT (CAST('(3,BTC/USD,"2023-01-02 00:01:30.123456+00",102.0000000000,2.0000000000,buy,limit,"")' AS trades)).*
--
INSERT INTO trades SELECT (CAST('(4,BTC/USD,"2023-01-02 00:07:00+00",98.0000000000,1.0000000000,sell,market,"")' AS trades)).*
--
INSERT INTO trades SELECT (CAST('(5,BTC/USD,"2023-01-02 02:00:00+00",106.0000000000,3.0000000000,buy,market,"")' AS trades)).*
--
INSERT INTO trades SELECT (CAST('(6,BTC/USD,"2023-01-02 02:01:00+00",101.0000000000,1.0000000000,sell,market,"")' AS trades)).*
--
INSERT INTO trades SELECT (CAST('(8,BTC/USD,"2023-01-02 05:00:00+00",103.0000000000,1.0000000000,buy,limit,"")' AS trades)).*
--
INSERT INTO candles SELECT (CAST('(BTC/USD,"2023-01-02 00:00:00+00",1,100.0000000000,104.0000000000,100.0000000000,104.0000000000,2.0000000000,206.0000000000,2,103.0000000000)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(BTC/USD,"2023-01-02 00:01:00+00",1,102.0000000000,102.0000000000,102.0000000000,102.0000000000,2.0000000000,204.0000000000,1,102.0000000000)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(BTC/USD,"2023-01-02 00:07:00+00",1,98.0000000000,98.0000000000,98.0000000000,98.0000000000,1.0000000000,98.0000000000,1,98.0000000000)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(BTC/USD,"2023-01-02 02:00:00+00",1,106.0000000000,106.0000000000,106.0000000000,106.0000000000,3.0000000000,318.0000000000,1,106.0000000000)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(DOT/USD,"2023-01-02 00:00:00+00",60,4.0000000000,5.0000000000,3.0000000000,4.5000000000,100.0000000000,,9,)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(DOT/USD,"2023-01-02 01:00:00+00",60,4.5000000000,6.0000000000,4.0000000000,5.0000000000,50.0000000000,,8,)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(ETH/USD,"2023-01-02 00:00:00+00",1,10.5000000000,10.5000000000,10.5000000000,10.5000000000,0.0000000200,0.0000002100,2,10.5000000000)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(LTC/USD,"2022-12-26 00:00:00+00",1,70.0000000000,75.0000000000,65.0000000000,72.0000000000,10.0000000000,,4,)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(LTC/USD,"2022-12-26 00:01:00+00",1,72.0000000000,80.0000000000,71.0000000000,79.0000000000,30.0000000000,,6,)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(LTC/USD,"2023-01-02 00:00:00+00",1,60.0000000000,61.0000000000,59.0000000000,60.5000000000,2.0000000000,,3,)' AS candles)).*
--
INSERT INTO candles SELECT (CAST('(PEPE/USD,"2023-01-02 00:00:00+00",1,0.0000000001,0.0000000003,0.0000000001,0.0000000002,12345678901234567890.0000000001,,1,)' AS candles)).*
--
INSERT INTO data_sync_status SELECT (CAST('(BTC/USD,candles_1m,"2023-01-02 00:00:00+00","2023-01-02 02:00:00+00","2023-01-05 06:07:08.123456+00",,4,)' AS data_sync_status)).*
--
INSERT INTO data_sync_status SELECT (CAST('(BTC/USD,trades,"2023-01-02 00:00:10.25+00","2023-01-02 05:00:00+00","2023-01-05 06:07:08.123456+00",1672635600000000123,7,)' AS data_sync_status)).*
--
INSERT INTO data_sync_status SELECT (CAST('(DOT/USD,candles_1h,"2023-01-02 00:00:00+00","2023-01-02 01:00:00+00","2023-01-05 06:07:08.123456+00",,2,)' AS data_sync_status)).*
--
INSERT INTO data_sync_status SELECT (CAST('(ETH/USD,candles_1m,"2023-01-02 00:00:00+00","2023-01-02 00:00:00+00","2023-01-05 06:07:08.123456+00",,1,"2023-02-01 00:00:00+00")' AS data_sync_status)).*
--
INSERT INTO data_sync_status SELECT (CAST('(ETH/USD,trades,"2023-01-02 00:00:00+00","2023-01-03 00:00:00+00","2023-01-05 06:07:08.123456+00",,3,"2023-02-01 00:00:00+00")' AS data_sync_status)).*
--
INSERT INTO data_sync_status SELECT (CAST('(LTC/USD,candles_1m,"2022-12-26 00:00:00+00","2023-01-02 00:00:00+00","2023-01-05 06:07:08.123456+00",,3,)' AS data_sync_status)).*
--
INSERT INTO data_sync_status SELECT (CAST('(PEPE/USD,candles_1m,"2023-01-02 00:00:00+00","2023-01-02 00:00:00+00","2023-01-05 06:07:08.123456+00",,1,)' AS data_sync_status)).*
--
INSERT INTO data_coverage SELECT (CAST('(BTC/USD,candles_1m,csv,"{[""2023-01-02 00:00:00+00"",""2023-01-02 02:01:00+00"")}")' AS data_coverage)).*
--
INSERT INTO data_coverage SELECT (CAST('(BTC/USD,trades,csv,"{[""2023-01-02 00:00:00+00"",""2023-01-02 02:01:00.000001+00""),[""2023-01-02 05:00:00+00"",""2023-01-02 05:00:00.000001+00"")}")' AS data_coverage)).*
--
INSERT INTO data_coverage SELECT (CAST('(ETH/USD,candles_1m,csv,"{[""2023-01-02 00:00:00+00"",""2023-01-03 00:00:00+00"")}")' AS data_coverage)).*
--
INSERT INTO data_coverage SELECT (CAST('(ETH/USD,trades,csv,"{[""2023-01-02 00:00:00+00"",""2023-01-03 00:00:00+00"")}")' AS data_coverage)).*
--
INSERT INTO data_coverage SELECT (CAST('(LTC/USD,candles_1m,csv,"{[""2022-12-26 00:00:00+00"",""2023-01-02 00:01:00+00"")}")' AS data_coverage)).*
--
INSERT INTO data_coverage SELECT (CAST('(PEPE/USD,candles_1m,csv,"{[""2023-01-02 00:00:00+00"",""2023-01-02 00:01:00+00"")}")' AS data_coverage)).*
--
INSERT INTO unproven_ranges SELECT (CAST('(BTC/USD,trades,"{[""2023-01-01 00:00:00+00"",""2023-01-02 00:00:00+00"")}")' AS unproven_ranges)).*
--
INSERT INTO unproven_ranges SELECT (CAST('(DOT/USD,candles_1h,"{[""2023-01-02 00:00:00+00"",""2023-01-02 02:00:00+00"")}")' AS unproven_ranges)).*
--
INSERT INTO unproven_ranges SELECT (CAST('(ETH/USD,trades,"{[""2023-01-03 00:00:00+00"",""2023-01-03 00:00:01+00"")}")' AS unproven_ranges)).*
--
INSERT INTO flush_positions SELECT (CAST('(6ba7b810-9dad-11d1-80b4-00c04fd430c8,42,"2023-01-05 00:00:00+00")' AS flush_positions)).*
--
INSERT INTO running_jobs SELECT (CAST('(6ba7b811-9dad-11d1-80b4-00c04fd430c8,recording,{BTC/USD},{},old-host,4711,"2023-01-02 00:00:00+00","2023-01-02 00:00:00+00",,"1 of 1 pair live",)' AS running_jobs)).*
--
SELECT setval('trades_id_seq', -9223372036854775806)
--
CALL refresh_continuous_aggregate('candles_5m', NULL, NULL)
--
CALL refresh_continuous_aggregate('candles_15m', NULL, NULL)
--
CALL refresh_continuous_aggregate('candles_30m', NULL, NULL)
--
CALL refresh_continuous_aggregate('candles_1h', NULL, NULL)
--
CALL refresh_continuous_aggregate('candles_4h', NULL, NULL)
--
CALL refresh_continuous_aggregate('candles_12h', NULL, NULL)
--
CALL refresh_continuous_aggregate('candles_1d', NULL, NULL)
--
CALL refresh_continuous_aggregate('candles_1w', NULL, NULL)
--
SELECT drop_chunks('candles', older_than => TIMESTAMPTZ '2022-12-29 00:00+00')
--
SELECT compress_chunk(c) FROM show_chunks('trades') c
