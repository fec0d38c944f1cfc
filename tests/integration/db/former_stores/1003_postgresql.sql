-- A store of revision 1003 (plain PostgreSQL), as the versions before 1004 made it; with rows. It never changes.
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
CREATE FUNCTION public.candle_times(first timestamp with time zone, last timestamp with time zone, length interval) RETURNS SETOF timestamp with time zone
    LANGUAGE sql STABLE STRICT ROWS 1 PARALLEL SAFE
    BEGIN ATOMIC
 SELECT generate_series(first, last, length) AS generate_series;
END;
CREATE FUNCTION public.note_changed_minutes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
    BEGIN
        IF current_setting('kraken_db.span', true) <> '' THEN
            PERFORM note_stale_minutes(CAST(current_setting('kraken_db.symbol') AS varchar),
                                       CAST(current_setting('kraken_db.span') AS tstzrange))
            WHERE EXISTS (SELECT 1 FROM changed);
            RETURN NULL;
        END IF;
        PERFORM note_stale_minutes(symbol, tstzrange(min(first), max(last) + INTERVAL '1 minute'))
        FROM (
            SELECT symbol, first, last,
                   week - row_number() OVER (PARTITION BY symbol ORDER BY week) * INTERVAL '10080 minutes'
            FROM (
                SELECT symbol, date_bin(INTERVAL '10080 minutes', timestamp, TIMESTAMPTZ '2000-01-03 00:00:00+00'),
                       min(timestamp), max(timestamp)
                FROM changed WHERE interval_minutes = 1 AND isfinite(timestamp) GROUP BY 1, 2
            ) weeks(symbol, week, first, last)
        ) runs(symbol, first, last, run)
        GROUP BY symbol, run;
        RETURN NULL;
    END $$;
CREATE FUNCTION public.note_dropped_minutes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
    DECLARE
        before tstzmultirange := CASE WHEN TG_OP = 'INSERT' THEN '{}' ELSE OLD.dropped END;
        now tstzmultirange := CASE WHEN TG_OP = 'DELETE' THEN '{}' ELSE NEW.dropped END;
        changed tstzmultirange := (before - now) + (now - before);
        of_symbol varchar := CASE WHEN TG_OP = 'DELETE' THEN OLD.symbol ELSE NEW.symbol END;
        of_type varchar := CASE WHEN TG_OP = 'DELETE' THEN OLD.data_type ELSE NEW.data_type END;
    BEGIN
        IF of_type = 'candles_1m' AND NOT isempty(changed) THEN
            PERFORM note_stale_minutes(of_symbol, range_merge(changed));
        END IF;
        RETURN NULL;
    END $$;
CREATE FUNCTION public.note_stale_minutes(of_symbol character varying, changed tstzrange) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
    BEGIN
        IF current_setting('transaction_isolation') = 'read committed' THEN
            WITH touching AS MATERIALIZED (
                SELECT id, stale FROM pending_refresh
                WHERE symbol = of_symbol AND refreshed_at IS NULL
                  AND (stale && changed OR stale -|- changed)
                FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM pending_refresh WHERE symbol = of_symbol AND id IN (SELECT id FROM touching)
            )
            INSERT INTO pending_refresh (symbol, stale)
            SELECT of_symbol, tstzrange(least(lower(changed), min(lower(stale))),
                                        greatest(upper(changed), max(upper(stale))))
            FROM touching;
        ELSE
            INSERT INTO pending_refresh (symbol, stale) VALUES (of_symbol, changed);
        END IF;
    END $$;
CREATE FUNCTION public.note_truncated_minutes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
    BEGIN
        PERFORM note_stale_minutes(symbol, tstzrange(min(timestamp), max(timestamp) + INTERVAL '1 hour'))
        FROM rolled_candles WHERE interval_minutes = 60 GROUP BY symbol;
        RETURN NULL;
    END $$;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.candles (
    symbol character varying(20) NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    interval_minutes smallint NOT NULL,
    open numeric(20,10) NOT NULL,
    high numeric(20,10) NOT NULL,
    low numeric(20,10) NOT NULL,
    close numeric(20,10) NOT NULL,
    volume numeric(38,10) NOT NULL,
    quote_volume numeric(38,10),
    trade_count integer,
    vwap numeric(20,10)
);
CREATE TABLE public.dropped_ranges (
    symbol character varying(20) NOT NULL,
    data_type character varying(20) NOT NULL,
    dropped tstzmultirange NOT NULL
);
CREATE TABLE public.pending_refresh (
    symbol character varying(20) NOT NULL,
    id bigint NOT NULL,
    stale tstzrange NOT NULL,
    refreshed_at timestamp with time zone
);
CREATE TABLE public.rolled_candles (
    symbol character varying(20) NOT NULL,
    interval_minutes smallint NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    open numeric(20,10) NOT NULL,
    high numeric(20,10) NOT NULL,
    low numeric(20,10) NOT NULL,
    close numeric(20,10) NOT NULL,
    volume numeric(38,10) NOT NULL,
    quote_volume numeric(38,10),
    trade_count integer,
    vwap numeric(20,10),
    kept boolean DEFAULT false NOT NULL
);
CREATE VIEW public.candles_12h AS
 SELECT r.symbol,
    r."timestamp",
    r.interval_minutes,
    r.open,
    r.high,
    r.low,
    r.close,
    r.volume,
    r.quote_volume,
    r.trade_count,
    r.vwap
   FROM (public.rolled_candles r
     LEFT JOIN ( SELECT p.symbol,
            range_agg(p.stale) AS stale
           FROM public.pending_refresh p
          GROUP BY p.symbol) noted ON (((noted.symbol)::text = (r.symbol)::text)))
  WHERE ((r.interval_minutes = 720) AND ((noted.stale IS NULL) OR (NOT (noted.stale && tstzrange(r."timestamp", (r."timestamp" + '12:00:00'::interval))))))
UNION ALL
 SELECT bucket.symbol,
    bucket.opens_at AS "timestamp",
    (720)::smallint AS interval_minutes,
    candle.open,
    candle.high,
    candle.low,
    candle.close,
    candle.volume,
    candle.quote_volume,
    candle.trade_count,
    candle.vwap
   FROM ( SELECT DISTINCT p.symbol,
            waiting.opens_at
           FROM public.pending_refresh p,
            LATERAL public.candle_times(date_bin('12:00:00'::interval, lower(p.stale), '2000-01-03 00:00:00+00'::timestamp with time zone), (upper(p.stale) - '00:00:00.000001'::interval), '12:00:00'::interval) waiting(opens_at)) bucket,
    LATERAL ( SELECT ((array_agg(c.open ORDER BY c."timestamp"))[1])::numeric(20,10) AS open,
            (max(c.high))::numeric(20,10) AS high,
            (min(c.low))::numeric(20,10) AS low,
            ((array_agg(c.close ORDER BY c."timestamp"))[count(*)])::numeric(20,10) AS close,
            (sum(c.volume))::numeric(38,10) AS volume,
            (
                CASE
                    WHEN (count(c.quote_volume) = count(*)) THEN sum(c.quote_volume)
                    ELSE NULL::numeric
                END)::numeric(38,10) AS quote_volume,
            (sum(c.trade_count))::integer AS trade_count,
            (
                CASE
                    WHEN (count(*) FILTER (WHERE ((c.volume > (0)::numeric) AND (c.vwap IS NULL))) = 0) THEN (sum((c.vwap * c.volume)) / NULLIF(sum(c.volume), (0)::numeric))
                    ELSE NULL::numeric
                END)::numeric(20,10) AS vwap
           FROM ( SELECT part.opens_at AS "timestamp",
                    candle_1.open,
                    candle_1.high,
                    candle_1.low,
                    candle_1.close,
                    candle_1.volume,
                    candle_1.quote_volume,
                    candle_1.trade_count,
                    candle_1.vwap
                   FROM public.candle_times(bucket.opens_at, (bucket.opens_at + '11:00:00'::interval), '01:00:00'::interval) part(opens_at),
                    LATERAL ( SELECT k.open,
                            k.high,
                            k.low,
                            k.close,
                            k.volume,
                            k.quote_volume,
                            k.trade_count,
                            k.vwap
                           FROM public.rolled_candles k
                          WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = part.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                                   FROM public.dropped_ranges d
                                  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(part.opens_at, (part.opens_at + '01:00:00'::interval)))))))
                        UNION ALL
                         SELECT ((array_agg(m.open ORDER BY m."timestamp"))[1])::numeric(20,10) AS open,
                            (max(m.high))::numeric(20,10) AS high,
                            (min(m.low))::numeric(20,10) AS low,
                            ((array_agg(m.close ORDER BY m."timestamp"))[count(*)])::numeric(20,10) AS close,
                            (sum(m.volume))::numeric(38,10) AS volume,
                            (
                                CASE
                                    WHEN (count(m.quote_volume) = count(*)) THEN sum(m.quote_volume)
                                    ELSE NULL::numeric
                                END)::numeric(38,10) AS quote_volume,
                            (sum(m.trade_count))::integer AS trade_count,
                            (
                                CASE
                                    WHEN (count(*) FILTER (WHERE ((m.volume > (0)::numeric) AND (m.vwap IS NULL))) = 0) THEN (sum((m.vwap * m.volume)) / NULLIF(sum(m.volume), (0)::numeric))
                                    ELSE NULL::numeric
                                END)::numeric(20,10) AS vwap
                           FROM public.candles m
                          WHERE (((m.symbol)::text = (bucket.symbol)::text) AND (m.interval_minutes = 1) AND (m."timestamp" >= part.opens_at) AND (m."timestamp" < (part.opens_at + '01:00:00'::interval)) AND (NOT (EXISTS ( SELECT 1
                                   FROM public.rolled_candles k
                                  WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = part.opens_at) AND k.kept AND (EXISTS ( SELECT 1
   FROM public.dropped_ranges d
  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(part.opens_at, (part.opens_at + '01:00:00'::interval)))))))))))
                         HAVING (count(*) > 0)) candle_1) c
         HAVING (count(*) > 0)) candle;
CREATE VIEW public.candles_15m AS
 SELECT bucket.symbol,
    bucket.opens_at AS "timestamp",
    (15)::smallint AS interval_minutes,
    candle.open,
    candle.high,
    candle.low,
    candle.close,
    candle.volume,
    candle.quote_volume,
    candle.trade_count,
    candle.vwap
   FROM ( SELECT hour.symbol,
            (hour.opens_at + ((part.number)::double precision * '00:15:00'::interval)) AS opens_at
           FROM ( SELECT r.symbol,
                    r."timestamp" AS opens_at
                   FROM (public.rolled_candles r
                     LEFT JOIN ( SELECT p.symbol,
                            range_agg(p.stale) AS stale
                           FROM public.pending_refresh p
                          GROUP BY p.symbol) noted ON (((noted.symbol)::text = (r.symbol)::text)))
                  WHERE ((r.interval_minutes = 60) AND ((noted.stale IS NULL) OR (NOT (noted.stale && tstzrange(r."timestamp", (r."timestamp" + '01:00:00'::interval))))))
                UNION ALL
                 SELECT DISTINCT p.symbol,
                    waiting.opens_at
                   FROM public.pending_refresh p,
                    LATERAL public.candle_times(date_bin('01:00:00'::interval, lower(p.stale), '2000-01-03 00:00:00+00'::timestamp with time zone), (upper(p.stale) - '00:00:00.000001'::interval), '01:00:00'::interval) waiting(opens_at)) hour,
            generate_series(0, 3) part(number)) bucket,
    LATERAL ( SELECT k.open,
            k.high,
            k.low,
            k.close,
            k.volume,
            k.quote_volume,
            k.trade_count,
            k.vwap
           FROM public.rolled_candles k
          WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 15) AND (k."timestamp" = bucket.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                   FROM public.dropped_ranges d
                  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(bucket.opens_at, (bucket.opens_at + '00:15:00'::interval)))))))
        UNION ALL
         SELECT ((array_agg(m.open ORDER BY m."timestamp"))[1])::numeric(20,10) AS open,
            (max(m.high))::numeric(20,10) AS high,
            (min(m.low))::numeric(20,10) AS low,
            ((array_agg(m.close ORDER BY m."timestamp"))[count(*)])::numeric(20,10) AS close,
            (sum(m.volume))::numeric(38,10) AS volume,
            (
                CASE
                    WHEN (count(m.quote_volume) = count(*)) THEN sum(m.quote_volume)
                    ELSE NULL::numeric
                END)::numeric(38,10) AS quote_volume,
            (sum(m.trade_count))::integer AS trade_count,
            (
                CASE
                    WHEN (count(*) FILTER (WHERE ((m.volume > (0)::numeric) AND (m.vwap IS NULL))) = 0) THEN (sum((m.vwap * m.volume)) / NULLIF(sum(m.volume), (0)::numeric))
                    ELSE NULL::numeric
                END)::numeric(20,10) AS vwap
           FROM public.candles m
          WHERE (((m.symbol)::text = (bucket.symbol)::text) AND (m.interval_minutes = 1) AND (m."timestamp" >= bucket.opens_at) AND (m."timestamp" < (bucket.opens_at + '00:15:00'::interval)) AND (NOT (EXISTS ( SELECT 1
                   FROM public.rolled_candles k
                  WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 15) AND (k."timestamp" = bucket.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                           FROM public.dropped_ranges d
                          WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(bucket.opens_at, (bucket.opens_at + '00:15:00'::interval)))))))))))
         HAVING (count(*) > 0)) candle;
CREATE VIEW public.candles_1d AS
 SELECT r.symbol,
    r."timestamp",
    r.interval_minutes,
    r.open,
    r.high,
    r.low,
    r.close,
    r.volume,
    r.quote_volume,
    r.trade_count,
    r.vwap
   FROM (public.rolled_candles r
     LEFT JOIN ( SELECT p.symbol,
            range_agg(p.stale) AS stale
           FROM public.pending_refresh p
          GROUP BY p.symbol) noted ON (((noted.symbol)::text = (r.symbol)::text)))
  WHERE ((r.interval_minutes = 1440) AND ((noted.stale IS NULL) OR (NOT (noted.stale && tstzrange(r."timestamp", (r."timestamp" + '24:00:00'::interval))))))
UNION ALL
 SELECT bucket.symbol,
    bucket.opens_at AS "timestamp",
    (1440)::smallint AS interval_minutes,
    candle.open,
    candle.high,
    candle.low,
    candle.close,
    candle.volume,
    candle.quote_volume,
    candle.trade_count,
    candle.vwap
   FROM ( SELECT DISTINCT p.symbol,
            waiting.opens_at
           FROM public.pending_refresh p,
            LATERAL public.candle_times(date_bin('24:00:00'::interval, lower(p.stale), '2000-01-03 00:00:00+00'::timestamp with time zone), (upper(p.stale) - '00:00:00.000001'::interval), '24:00:00'::interval) waiting(opens_at)) bucket,
    LATERAL ( SELECT ((array_agg(c.open ORDER BY c."timestamp"))[1])::numeric(20,10) AS open,
            (max(c.high))::numeric(20,10) AS high,
            (min(c.low))::numeric(20,10) AS low,
            ((array_agg(c.close ORDER BY c."timestamp"))[count(*)])::numeric(20,10) AS close,
            (sum(c.volume))::numeric(38,10) AS volume,
            (
                CASE
                    WHEN (count(c.quote_volume) = count(*)) THEN sum(c.quote_volume)
                    ELSE NULL::numeric
                END)::numeric(38,10) AS quote_volume,
            (sum(c.trade_count))::integer AS trade_count,
            (
                CASE
                    WHEN (count(*) FILTER (WHERE ((c.volume > (0)::numeric) AND (c.vwap IS NULL))) = 0) THEN (sum((c.vwap * c.volume)) / NULLIF(sum(c.volume), (0)::numeric))
                    ELSE NULL::numeric
                END)::numeric(20,10) AS vwap
           FROM ( SELECT part.opens_at AS "timestamp",
                    candle_1.open,
                    candle_1.high,
                    candle_1.low,
                    candle_1.close,
                    candle_1.volume,
                    candle_1.quote_volume,
                    candle_1.trade_count,
                    candle_1.vwap
                   FROM public.candle_times(bucket.opens_at, (bucket.opens_at + '23:00:00'::interval), '01:00:00'::interval) part(opens_at),
                    LATERAL ( SELECT k.open,
                            k.high,
                            k.low,
                            k.close,
                            k.volume,
                            k.quote_volume,
                            k.trade_count,
                            k.vwap
                           FROM public.rolled_candles k
                          WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = part.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                                   FROM public.dropped_ranges d
                                  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(part.opens_at, (part.opens_at + '01:00:00'::interval)))))))
                        UNION ALL
                         SELECT ((array_agg(m.open ORDER BY m."timestamp"))[1])::numeric(20,10) AS open,
                            (max(m.high))::numeric(20,10) AS high,
                            (min(m.low))::numeric(20,10) AS low,
                            ((array_agg(m.close ORDER BY m."timestamp"))[count(*)])::numeric(20,10) AS close,
                            (sum(m.volume))::numeric(38,10) AS volume,
                            (
                                CASE
                                    WHEN (count(m.quote_volume) = count(*)) THEN sum(m.quote_volume)
                                    ELSE NULL::numeric
                                END)::numeric(38,10) AS quote_volume,
                            (sum(m.trade_count))::integer AS trade_count,
                            (
                                CASE
                                    WHEN (count(*) FILTER (WHERE ((m.volume > (0)::numeric) AND (m.vwap IS NULL))) = 0) THEN (sum((m.vwap * m.volume)) / NULLIF(sum(m.volume), (0)::numeric))
                                    ELSE NULL::numeric
                                END)::numeric(20,10) AS vwap
                           FROM public.candles m
                          WHERE (((m.symbol)::text = (bucket.symbol)::text) AND (m.interval_minutes = 1) AND (m."timestamp" >= part.opens_at) AND (m."timestamp" < (part.opens_at + '01:00:00'::interval)) AND (NOT (EXISTS ( SELECT 1
                                   FROM public.rolled_candles k
                                  WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = part.opens_at) AND k.kept AND (EXISTS ( SELECT 1
   FROM public.dropped_ranges d
  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(part.opens_at, (part.opens_at + '01:00:00'::interval)))))))))))
                         HAVING (count(*) > 0)) candle_1) c
         HAVING (count(*) > 0)) candle;
CREATE VIEW public.candles_1h AS
 SELECT r.symbol,
    r."timestamp",
    r.interval_minutes,
    r.open,
    r.high,
    r.low,
    r.close,
    r.volume,
    r.quote_volume,
    r.trade_count,
    r.vwap
   FROM (public.rolled_candles r
     LEFT JOIN ( SELECT p.symbol,
            range_agg(p.stale) AS stale
           FROM public.pending_refresh p
          GROUP BY p.symbol) noted ON (((noted.symbol)::text = (r.symbol)::text)))
  WHERE ((r.interval_minutes = 60) AND ((noted.stale IS NULL) OR (NOT (noted.stale && tstzrange(r."timestamp", (r."timestamp" + '01:00:00'::interval))))))
UNION ALL
 SELECT bucket.symbol,
    bucket.opens_at AS "timestamp",
    (60)::smallint AS interval_minutes,
    candle.open,
    candle.high,
    candle.low,
    candle.close,
    candle.volume,
    candle.quote_volume,
    candle.trade_count,
    candle.vwap
   FROM ( SELECT DISTINCT p.symbol,
            waiting.opens_at
           FROM public.pending_refresh p,
            LATERAL public.candle_times(date_bin('01:00:00'::interval, lower(p.stale), '2000-01-03 00:00:00+00'::timestamp with time zone), (upper(p.stale) - '00:00:00.000001'::interval), '01:00:00'::interval) waiting(opens_at)) bucket,
    LATERAL ( SELECT k.open,
            k.high,
            k.low,
            k.close,
            k.volume,
            k.quote_volume,
            k.trade_count,
            k.vwap
           FROM public.rolled_candles k
          WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = bucket.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                   FROM public.dropped_ranges d
                  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(bucket.opens_at, (bucket.opens_at + '01:00:00'::interval)))))))
        UNION ALL
         SELECT ((array_agg(m.open ORDER BY m."timestamp"))[1])::numeric(20,10) AS open,
            (max(m.high))::numeric(20,10) AS high,
            (min(m.low))::numeric(20,10) AS low,
            ((array_agg(m.close ORDER BY m."timestamp"))[count(*)])::numeric(20,10) AS close,
            (sum(m.volume))::numeric(38,10) AS volume,
            (
                CASE
                    WHEN (count(m.quote_volume) = count(*)) THEN sum(m.quote_volume)
                    ELSE NULL::numeric
                END)::numeric(38,10) AS quote_volume,
            (sum(m.trade_count))::integer AS trade_count,
            (
                CASE
                    WHEN (count(*) FILTER (WHERE ((m.volume > (0)::numeric) AND (m.vwap IS NULL))) = 0) THEN (sum((m.vwap * m.volume)) / NULLIF(sum(m.volume), (0)::numeric))
                    ELSE NULL::numeric
                END)::numeric(20,10) AS vwap
           FROM public.candles m
          WHERE (((m.symbol)::text = (bucket.symbol)::text) AND (m.interval_minutes = 1) AND (m."timestamp" >= bucket.opens_at) AND (m."timestamp" < (bucket.opens_at + '01:00:00'::interval)) AND (NOT (EXISTS ( SELECT 1
                   FROM public.rolled_candles k
                  WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = bucket.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                           FROM public.dropped_ranges d
                          WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(bucket.opens_at, (bucket.opens_at + '01:00:00'::interval)))))))))))
         HAVING (count(*) > 0)) candle;
CREATE VIEW public.candles_1w AS
 SELECT r.symbol,
    r."timestamp",
    r.interval_minutes,
    r.open,
    r.high,
    r.low,
    r.close,
    r.volume,
    r.quote_volume,
    r.trade_count,
    r.vwap
   FROM (public.rolled_candles r
     LEFT JOIN ( SELECT p.symbol,
            range_agg(p.stale) AS stale
           FROM public.pending_refresh p
          GROUP BY p.symbol) noted ON (((noted.symbol)::text = (r.symbol)::text)))
  WHERE ((r.interval_minutes = 10080) AND ((noted.stale IS NULL) OR (NOT (noted.stale && tstzrange(r."timestamp", (r."timestamp" + '168:00:00'::interval))))))
UNION ALL
 SELECT bucket.symbol,
    bucket.opens_at AS "timestamp",
    (10080)::smallint AS interval_minutes,
    candle.open,
    candle.high,
    candle.low,
    candle.close,
    candle.volume,
    candle.quote_volume,
    candle.trade_count,
    candle.vwap
   FROM ( SELECT DISTINCT p.symbol,
            waiting.opens_at
           FROM public.pending_refresh p,
            LATERAL public.candle_times(date_bin('168:00:00'::interval, lower(p.stale), '2000-01-03 00:00:00+00'::timestamp with time zone), (upper(p.stale) - '00:00:00.000001'::interval), '168:00:00'::interval) waiting(opens_at)) bucket,
    LATERAL ( SELECT ((array_agg(c.open ORDER BY c."timestamp"))[1])::numeric(20,10) AS open,
            (max(c.high))::numeric(20,10) AS high,
            (min(c.low))::numeric(20,10) AS low,
            ((array_agg(c.close ORDER BY c."timestamp"))[count(*)])::numeric(20,10) AS close,
            (sum(c.volume))::numeric(38,10) AS volume,
            (
                CASE
                    WHEN (count(c.quote_volume) = count(*)) THEN sum(c.quote_volume)
                    ELSE NULL::numeric
                END)::numeric(38,10) AS quote_volume,
            (sum(c.trade_count))::integer AS trade_count,
            (
                CASE
                    WHEN (count(*) FILTER (WHERE ((c.volume > (0)::numeric) AND (c.vwap IS NULL))) = 0) THEN (sum((c.vwap * c.volume)) / NULLIF(sum(c.volume), (0)::numeric))
                    ELSE NULL::numeric
                END)::numeric(20,10) AS vwap
           FROM ( SELECT day.opens_at AS "timestamp",
                    candle_1.open,
                    candle_1.high,
                    candle_1.low,
                    candle_1.close,
                    candle_1.volume,
                    candle_1.quote_volume,
                    candle_1.trade_count,
                    candle_1.vwap
                   FROM public.candle_times(bucket.opens_at, (bucket.opens_at + '144:00:00'::interval), '24:00:00'::interval) day(opens_at),
                    LATERAL ( SELECT ((array_agg(c_1.open ORDER BY c_1."timestamp"))[1])::numeric(20,10) AS open,
                            (max(c_1.high))::numeric(20,10) AS high,
                            (min(c_1.low))::numeric(20,10) AS low,
                            ((array_agg(c_1.close ORDER BY c_1."timestamp"))[count(*)])::numeric(20,10) AS close,
                            (sum(c_1.volume))::numeric(38,10) AS volume,
                            (
                                CASE
                                    WHEN (count(c_1.quote_volume) = count(*)) THEN sum(c_1.quote_volume)
                                    ELSE NULL::numeric
                                END)::numeric(38,10) AS quote_volume,
                            (sum(c_1.trade_count))::integer AS trade_count,
                            (
                                CASE
                                    WHEN (count(*) FILTER (WHERE ((c_1.volume > (0)::numeric) AND (c_1.vwap IS NULL))) = 0) THEN (sum((c_1.vwap * c_1.volume)) / NULLIF(sum(c_1.volume), (0)::numeric))
                                    ELSE NULL::numeric
                                END)::numeric(20,10) AS vwap
                           FROM ( SELECT part.opens_at AS "timestamp",
                                    candle_2.open,
                                    candle_2.high,
                                    candle_2.low,
                                    candle_2.close,
                                    candle_2.volume,
                                    candle_2.quote_volume,
                                    candle_2.trade_count,
                                    candle_2.vwap
                                   FROM public.candle_times(day.opens_at, (day.opens_at + '23:00:00'::interval), '01:00:00'::interval) part(opens_at),
                                    LATERAL ( SELECT k.open,
    k.high,
    k.low,
    k.close,
    k.volume,
    k.quote_volume,
    k.trade_count,
    k.vwap
   FROM public.rolled_candles k
  WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = part.opens_at) AND k.kept AND (EXISTS ( SELECT 1
     FROM public.dropped_ranges d
    WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(part.opens_at, (part.opens_at + '01:00:00'::interval)))))))
UNION ALL
 SELECT ((array_agg(m.open ORDER BY m."timestamp"))[1])::numeric(20,10) AS open,
    (max(m.high))::numeric(20,10) AS high,
    (min(m.low))::numeric(20,10) AS low,
    ((array_agg(m.close ORDER BY m."timestamp"))[count(*)])::numeric(20,10) AS close,
    (sum(m.volume))::numeric(38,10) AS volume,
    (
  CASE
   WHEN (count(m.quote_volume) = count(*)) THEN sum(m.quote_volume)
   ELSE NULL::numeric
  END)::numeric(38,10) AS quote_volume,
    (sum(m.trade_count))::integer AS trade_count,
    (
  CASE
   WHEN (count(*) FILTER (WHERE ((m.volume > (0)::numeric) AND (m.vwap IS NULL))) = 0) THEN (sum((m.vwap * m.volume)) / NULLIF(sum(m.volume), (0)::numeric))
   ELSE NULL::numeric
  END)::numeric(20,10) AS vwap
   FROM public.candles m
  WHERE (((m.symbol)::text = (bucket.symbol)::text) AND (m.interval_minutes = 1) AND (m."timestamp" >= part.opens_at) AND (m."timestamp" < (part.opens_at + '01:00:00'::interval)) AND (NOT (EXISTS ( SELECT 1
     FROM public.rolled_candles k
    WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = part.opens_at) AND k.kept AND (EXISTS ( SELECT 1
       FROM public.dropped_ranges d
      WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(part.opens_at, (part.opens_at + '01:00:00'::interval)))))))))))
 HAVING (count(*) > 0)) candle_2) c_1
                         HAVING (count(*) > 0)) candle_1) c
         HAVING (count(*) > 0)) candle;
CREATE VIEW public.candles_30m AS
 SELECT bucket.symbol,
    bucket.opens_at AS "timestamp",
    (30)::smallint AS interval_minutes,
    candle.open,
    candle.high,
    candle.low,
    candle.close,
    candle.volume,
    candle.quote_volume,
    candle.trade_count,
    candle.vwap
   FROM ( SELECT hour.symbol,
            (hour.opens_at + ((part.number)::double precision * '00:30:00'::interval)) AS opens_at
           FROM ( SELECT r.symbol,
                    r."timestamp" AS opens_at
                   FROM (public.rolled_candles r
                     LEFT JOIN ( SELECT p.symbol,
                            range_agg(p.stale) AS stale
                           FROM public.pending_refresh p
                          GROUP BY p.symbol) noted ON (((noted.symbol)::text = (r.symbol)::text)))
                  WHERE ((r.interval_minutes = 60) AND ((noted.stale IS NULL) OR (NOT (noted.stale && tstzrange(r."timestamp", (r."timestamp" + '01:00:00'::interval))))))
                UNION ALL
                 SELECT DISTINCT p.symbol,
                    waiting.opens_at
                   FROM public.pending_refresh p,
                    LATERAL public.candle_times(date_bin('01:00:00'::interval, lower(p.stale), '2000-01-03 00:00:00+00'::timestamp with time zone), (upper(p.stale) - '00:00:00.000001'::interval), '01:00:00'::interval) waiting(opens_at)) hour,
            generate_series(0, 1) part(number)) bucket,
    LATERAL ( SELECT k.open,
            k.high,
            k.low,
            k.close,
            k.volume,
            k.quote_volume,
            k.trade_count,
            k.vwap
           FROM public.rolled_candles k
          WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 30) AND (k."timestamp" = bucket.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                   FROM public.dropped_ranges d
                  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(bucket.opens_at, (bucket.opens_at + '00:30:00'::interval)))))))
        UNION ALL
         SELECT ((array_agg(m.open ORDER BY m."timestamp"))[1])::numeric(20,10) AS open,
            (max(m.high))::numeric(20,10) AS high,
            (min(m.low))::numeric(20,10) AS low,
            ((array_agg(m.close ORDER BY m."timestamp"))[count(*)])::numeric(20,10) AS close,
            (sum(m.volume))::numeric(38,10) AS volume,
            (
                CASE
                    WHEN (count(m.quote_volume) = count(*)) THEN sum(m.quote_volume)
                    ELSE NULL::numeric
                END)::numeric(38,10) AS quote_volume,
            (sum(m.trade_count))::integer AS trade_count,
            (
                CASE
                    WHEN (count(*) FILTER (WHERE ((m.volume > (0)::numeric) AND (m.vwap IS NULL))) = 0) THEN (sum((m.vwap * m.volume)) / NULLIF(sum(m.volume), (0)::numeric))
                    ELSE NULL::numeric
                END)::numeric(20,10) AS vwap
           FROM public.candles m
          WHERE (((m.symbol)::text = (bucket.symbol)::text) AND (m.interval_minutes = 1) AND (m."timestamp" >= bucket.opens_at) AND (m."timestamp" < (bucket.opens_at + '00:30:00'::interval)) AND (NOT (EXISTS ( SELECT 1
                   FROM public.rolled_candles k
                  WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 30) AND (k."timestamp" = bucket.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                           FROM public.dropped_ranges d
                          WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(bucket.opens_at, (bucket.opens_at + '00:30:00'::interval)))))))))))
         HAVING (count(*) > 0)) candle;
CREATE VIEW public.candles_4h AS
 SELECT r.symbol,
    r."timestamp",
    r.interval_minutes,
    r.open,
    r.high,
    r.low,
    r.close,
    r.volume,
    r.quote_volume,
    r.trade_count,
    r.vwap
   FROM (public.rolled_candles r
     LEFT JOIN ( SELECT p.symbol,
            range_agg(p.stale) AS stale
           FROM public.pending_refresh p
          GROUP BY p.symbol) noted ON (((noted.symbol)::text = (r.symbol)::text)))
  WHERE ((r.interval_minutes = 240) AND ((noted.stale IS NULL) OR (NOT (noted.stale && tstzrange(r."timestamp", (r."timestamp" + '04:00:00'::interval))))))
UNION ALL
 SELECT bucket.symbol,
    bucket.opens_at AS "timestamp",
    (240)::smallint AS interval_minutes,
    candle.open,
    candle.high,
    candle.low,
    candle.close,
    candle.volume,
    candle.quote_volume,
    candle.trade_count,
    candle.vwap
   FROM ( SELECT DISTINCT p.symbol,
            waiting.opens_at
           FROM public.pending_refresh p,
            LATERAL public.candle_times(date_bin('04:00:00'::interval, lower(p.stale), '2000-01-03 00:00:00+00'::timestamp with time zone), (upper(p.stale) - '00:00:00.000001'::interval), '04:00:00'::interval) waiting(opens_at)) bucket,
    LATERAL ( SELECT ((array_agg(c.open ORDER BY c."timestamp"))[1])::numeric(20,10) AS open,
            (max(c.high))::numeric(20,10) AS high,
            (min(c.low))::numeric(20,10) AS low,
            ((array_agg(c.close ORDER BY c."timestamp"))[count(*)])::numeric(20,10) AS close,
            (sum(c.volume))::numeric(38,10) AS volume,
            (
                CASE
                    WHEN (count(c.quote_volume) = count(*)) THEN sum(c.quote_volume)
                    ELSE NULL::numeric
                END)::numeric(38,10) AS quote_volume,
            (sum(c.trade_count))::integer AS trade_count,
            (
                CASE
                    WHEN (count(*) FILTER (WHERE ((c.volume > (0)::numeric) AND (c.vwap IS NULL))) = 0) THEN (sum((c.vwap * c.volume)) / NULLIF(sum(c.volume), (0)::numeric))
                    ELSE NULL::numeric
                END)::numeric(20,10) AS vwap
           FROM ( SELECT part.opens_at AS "timestamp",
                    candle_1.open,
                    candle_1.high,
                    candle_1.low,
                    candle_1.close,
                    candle_1.volume,
                    candle_1.quote_volume,
                    candle_1.trade_count,
                    candle_1.vwap
                   FROM public.candle_times(bucket.opens_at, (bucket.opens_at + '03:00:00'::interval), '01:00:00'::interval) part(opens_at),
                    LATERAL ( SELECT k.open,
                            k.high,
                            k.low,
                            k.close,
                            k.volume,
                            k.quote_volume,
                            k.trade_count,
                            k.vwap
                           FROM public.rolled_candles k
                          WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = part.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                                   FROM public.dropped_ranges d
                                  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(part.opens_at, (part.opens_at + '01:00:00'::interval)))))))
                        UNION ALL
                         SELECT ((array_agg(m.open ORDER BY m."timestamp"))[1])::numeric(20,10) AS open,
                            (max(m.high))::numeric(20,10) AS high,
                            (min(m.low))::numeric(20,10) AS low,
                            ((array_agg(m.close ORDER BY m."timestamp"))[count(*)])::numeric(20,10) AS close,
                            (sum(m.volume))::numeric(38,10) AS volume,
                            (
                                CASE
                                    WHEN (count(m.quote_volume) = count(*)) THEN sum(m.quote_volume)
                                    ELSE NULL::numeric
                                END)::numeric(38,10) AS quote_volume,
                            (sum(m.trade_count))::integer AS trade_count,
                            (
                                CASE
                                    WHEN (count(*) FILTER (WHERE ((m.volume > (0)::numeric) AND (m.vwap IS NULL))) = 0) THEN (sum((m.vwap * m.volume)) / NULLIF(sum(m.volume), (0)::numeric))
                                    ELSE NULL::numeric
                                END)::numeric(20,10) AS vwap
                           FROM public.candles m
                          WHERE (((m.symbol)::text = (bucket.symbol)::text) AND (m.interval_minutes = 1) AND (m."timestamp" >= part.opens_at) AND (m."timestamp" < (part.opens_at + '01:00:00'::interval)) AND (NOT (EXISTS ( SELECT 1
                                   FROM public.rolled_candles k
                                  WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 60) AND (k."timestamp" = part.opens_at) AND k.kept AND (EXISTS ( SELECT 1
   FROM public.dropped_ranges d
  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(part.opens_at, (part.opens_at + '01:00:00'::interval)))))))))))
                         HAVING (count(*) > 0)) candle_1) c
         HAVING (count(*) > 0)) candle;
CREATE VIEW public.candles_5m AS
 SELECT bucket.symbol,
    bucket.opens_at AS "timestamp",
    (5)::smallint AS interval_minutes,
    candle.open,
    candle.high,
    candle.low,
    candle.close,
    candle.volume,
    candle.quote_volume,
    candle.trade_count,
    candle.vwap
   FROM ( SELECT hour.symbol,
            (hour.opens_at + ((part.number)::double precision * '00:05:00'::interval)) AS opens_at
           FROM ( SELECT r.symbol,
                    r."timestamp" AS opens_at
                   FROM (public.rolled_candles r
                     LEFT JOIN ( SELECT p.symbol,
                            range_agg(p.stale) AS stale
                           FROM public.pending_refresh p
                          GROUP BY p.symbol) noted ON (((noted.symbol)::text = (r.symbol)::text)))
                  WHERE ((r.interval_minutes = 60) AND ((noted.stale IS NULL) OR (NOT (noted.stale && tstzrange(r."timestamp", (r."timestamp" + '01:00:00'::interval))))))
                UNION ALL
                 SELECT DISTINCT p.symbol,
                    waiting.opens_at
                   FROM public.pending_refresh p,
                    LATERAL public.candle_times(date_bin('01:00:00'::interval, lower(p.stale), '2000-01-03 00:00:00+00'::timestamp with time zone), (upper(p.stale) - '00:00:00.000001'::interval), '01:00:00'::interval) waiting(opens_at)) hour,
            generate_series(0, 11) part(number)) bucket,
    LATERAL ( SELECT k.open,
            k.high,
            k.low,
            k.close,
            k.volume,
            k.quote_volume,
            k.trade_count,
            k.vwap
           FROM public.rolled_candles k
          WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 5) AND (k."timestamp" = bucket.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                   FROM public.dropped_ranges d
                  WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(bucket.opens_at, (bucket.opens_at + '00:05:00'::interval)))))))
        UNION ALL
         SELECT ((array_agg(m.open ORDER BY m."timestamp"))[1])::numeric(20,10) AS open,
            (max(m.high))::numeric(20,10) AS high,
            (min(m.low))::numeric(20,10) AS low,
            ((array_agg(m.close ORDER BY m."timestamp"))[count(*)])::numeric(20,10) AS close,
            (sum(m.volume))::numeric(38,10) AS volume,
            (
                CASE
                    WHEN (count(m.quote_volume) = count(*)) THEN sum(m.quote_volume)
                    ELSE NULL::numeric
                END)::numeric(38,10) AS quote_volume,
            (sum(m.trade_count))::integer AS trade_count,
            (
                CASE
                    WHEN (count(*) FILTER (WHERE ((m.volume > (0)::numeric) AND (m.vwap IS NULL))) = 0) THEN (sum((m.vwap * m.volume)) / NULLIF(sum(m.volume), (0)::numeric))
                    ELSE NULL::numeric
                END)::numeric(20,10) AS vwap
           FROM public.candles m
          WHERE (((m.symbol)::text = (bucket.symbol)::text) AND (m.interval_minutes = 1) AND (m."timestamp" >= bucket.opens_at) AND (m."timestamp" < (bucket.opens_at + '00:05:00'::interval)) AND (NOT (EXISTS ( SELECT 1
                   FROM public.rolled_candles k
                  WHERE (((k.symbol)::text = (bucket.symbol)::text) AND (k.interval_minutes = 5) AND (k."timestamp" = bucket.opens_at) AND k.kept AND (EXISTS ( SELECT 1
                           FROM public.dropped_ranges d
                          WHERE (((d.symbol)::text = (bucket.symbol)::text) AND ((d.data_type)::text = 'candles_1m'::text) AND (d.dropped && tstzrange(bucket.opens_at, (bucket.opens_at + '00:05:00'::interval)))))))))))
         HAVING (count(*) > 0)) candle;
CREATE TABLE public.data_coverage (
    symbol character varying(20) NOT NULL,
    data_type character varying(20) NOT NULL,
    source character varying(20) NOT NULL,
    covered tstzmultirange NOT NULL
);
CREATE TABLE public.data_sync_status (
    symbol character varying(20) NOT NULL,
    data_type character varying(20) NOT NULL,
    oldest_timestamp timestamp with time zone,
    newest_timestamp timestamp with time zone,
    last_sync_at timestamp with time zone DEFAULT now() NOT NULL,
    last_kraken_since bigint,
    total_records bigint DEFAULT 0 NOT NULL,
    ended_at timestamp with time zone
);
CREATE TABLE public.flush_positions (
    stream uuid NOT NULL,
    "position" bigint NOT NULL,
    flushed_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.paused_jobs (
    job_id integer NOT NULL
);
ALTER TABLE public.pending_refresh ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.pending_refresh_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.retention_periods (
    table_name character varying(20) NOT NULL,
    kept_for interval NOT NULL
);
CREATE TABLE public.running_jobs (
    id uuid NOT NULL,
    kind character varying(20) NOT NULL,
    symbols text[] NOT NULL,
    behind text[] NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    heard_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    state text NOT NULL,
    last_error text
);
CREATE TABLE public.trades (
    id bigint NOT NULL,
    symbol character varying(20) NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    price numeric(20,10) NOT NULL,
    volume numeric(38,10) NOT NULL,
    side character varying(4) NOT NULL,
    order_type character varying(10),
    misc character varying(50)
);
CREATE SEQUENCE public.trades_id_seq
    START WITH -9223372036854775808
    INCREMENT BY 1
    MINVALUE -9223372036854775808
    MAXVALUE -1
    CACHE 1;
ALTER SEQUENCE public.trades_id_seq OWNED BY public.trades.id;
CREATE TABLE public.unproven_ranges (
    symbol character varying(20) NOT NULL,
    data_type character varying(20) NOT NULL,
    unproven tstzmultirange NOT NULL
);
ALTER TABLE ONLY public.trades ALTER COLUMN id SET DEFAULT nextval('public.trades_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES
	('1003');
INSERT INTO public.candles VALUES
	('BTC/USD', '2023-01-02 02:00:00+00', 1, 106.0000000000, 106.0000000000, 106.0000000000, 106.0000000000, 3.0000000000, 318.0000000000, 1, 106.0000000000),
	('BTC/USD', '2023-01-02 00:07:00+00', 1, 98.0000000000, 98.0000000000, 98.0000000000, 98.0000000000, 1.0000000000, 98.0000000000, 1, 98.0000000000),
	('BTC/USD', '2023-01-02 00:00:00+00', 1, 100.0000000000, 104.0000000000, 100.0000000000, 104.0000000000, 2.0000000000, 206.0000000000, 2, 103.0000000000),
	('BTC/USD', '2023-01-02 00:01:00+00', 1, 102.0000000000, 102.0000000000, 102.0000000000, 102.0000000000, 2.0000000000, 204.0000000000, 1, 102.0000000000),
	('ETH/USD', '2023-01-02 00:00:00+00', 1, 10.5000000000, 10.5000000000, 10.5000000000, 10.5000000000, 0.0000000200, 0.0000002100, 2, 10.5000000000),
	('LTC/USD', '2023-01-02 00:00:00+00', 1, 60.0000000000, 61.0000000000, 59.0000000000, 60.5000000000, 2.0000000000, NULL, 3, NULL),
	('DOT/USD', '2023-01-02 00:00:00+00', 60, 4.0000000000, 5.0000000000, 3.0000000000, 4.5000000000, 100.0000000000, NULL, 9, NULL),
	('DOT/USD', '2023-01-02 01:00:00+00', 60, 4.5000000000, 6.0000000000, 4.0000000000, 5.0000000000, 50.0000000000, NULL, 8, NULL),
	('PEPE/USD', '2023-01-02 00:00:00+00', 1, 0.0000000001, 0.0000000003, 0.0000000001, 0.0000000002, 12345678901234567890.0000000001, NULL, 1, NULL),
	('SOL/USD', '2023-01-02 00:00:00+00', 1, 1.0000000000, 2.0000000000, 0.5000000000, 1.5000000000, 10.0000000000, 15.0000000000, 3, 1.5000000000),
	('SOL/USD', '2023-01-02 00:04:00+00', 1, 1.5000000000, 4.0000000000, 1.5000000000, 3.0000000000, 30.0000000000, 75.0000000000, 5, 2.5000000000);
INSERT INTO public.data_coverage VALUES
	('BTC/USD', 'candles_1m', 'csv', '{["2023-01-02 00:00:00+00","2023-01-02 02:01:00+00")}'),
	('BTC/USD', 'trades', 'csv', '{["2023-01-02 00:00:00+00","2023-01-02 02:01:00.000001+00"),["2023-01-02 05:00:00+00","2023-01-02 05:00:00.000001+00")}'),
	('ETH/USD', 'trades', 'csv', '{["2023-01-02 00:00:00+00","2023-01-03 00:00:00+00")}'),
	('ETH/USD', 'candles_1m', 'csv', '{["2023-01-02 00:00:00+00","2023-01-03 00:00:00+00")}'),
	('LTC/USD', 'candles_1m', 'csv', '{["2022-12-26 00:00:00+00","2023-01-02 00:01:00+00")}'),
	('PEPE/USD', 'candles_1m', 'csv', '{["2023-01-02 00:00:00+00","2023-01-02 00:01:00+00")}');
INSERT INTO public.data_sync_status VALUES
	('BTC/USD', 'candles_1m', '2023-01-02 00:00:00+00', '2023-01-02 02:00:00+00', '2023-01-05 06:07:08.123456+00', NULL, 4, NULL),
	('LTC/USD', 'candles_1m', '2022-12-26 00:00:00+00', '2023-01-02 00:00:00+00', '2023-01-05 06:07:08.123456+00', NULL, 3, NULL),
	('DOT/USD', 'candles_1h', '2023-01-02 00:00:00+00', '2023-01-02 01:00:00+00', '2023-01-05 06:07:08.123456+00', NULL, 2, NULL),
	('PEPE/USD', 'candles_1m', '2023-01-02 00:00:00+00', '2023-01-02 00:00:00+00', '2023-01-05 06:07:08.123456+00', NULL, 1, NULL),
	('BTC/USD', 'trades', '2023-01-02 00:00:10.25+00', '2023-01-02 05:00:00+00', '2023-01-05 06:07:08.123456+00', 1672635600000000123, 7, NULL),
	('ETH/USD', 'trades', '2023-01-02 00:00:00+00', '2023-01-03 00:00:00+00', '2023-01-05 06:07:08.123456+00', NULL, 3, '2023-02-01 00:00:00+00'),
	('ETH/USD', 'candles_1m', '2023-01-02 00:00:00+00', '2023-01-02 00:00:00+00', '2023-01-05 06:07:08.123456+00', NULL, 1, '2023-02-01 00:00:00+00');
INSERT INTO public.dropped_ranges VALUES
	('LTC/USD', 'candles_1m', '{["2022-12-26 00:00:00+00","2022-12-31 00:00:00+00")}');
INSERT INTO public.flush_positions VALUES
	('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 42, '2023-01-05 00:00:00+00');
INSERT INTO public.pending_refresh OVERRIDING SYSTEM VALUE VALUES
	('SOL/USD', 7, '["2023-01-02 00:00:00+00","2023-01-02 00:05:00+00")', NULL);
INSERT INTO public.retention_periods VALUES
	('candles', '12 days');
INSERT INTO public.rolled_candles VALUES
	('BTC/USD', 60, '2023-01-02 00:00:00+00', 100.0000000000, 104.0000000000, 98.0000000000, 98.0000000000, 5.0000000000, 508.0000000000, 4, 101.6000000000, false),
	('BTC/USD', 60, '2023-01-02 02:00:00+00', 106.0000000000, 106.0000000000, 106.0000000000, 106.0000000000, 3.0000000000, 318.0000000000, 1, 106.0000000000, false),
	('BTC/USD', 240, '2023-01-02 00:00:00+00', 100.0000000000, 106.0000000000, 98.0000000000, 106.0000000000, 8.0000000000, 826.0000000000, 5, 103.2500000000, false),
	('BTC/USD', 720, '2023-01-02 00:00:00+00', 100.0000000000, 106.0000000000, 98.0000000000, 106.0000000000, 8.0000000000, 826.0000000000, 5, 103.2500000000, false),
	('BTC/USD', 1440, '2023-01-02 00:00:00+00', 100.0000000000, 106.0000000000, 98.0000000000, 106.0000000000, 8.0000000000, 826.0000000000, 5, 103.2500000000, false),
	('BTC/USD', 10080, '2023-01-02 00:00:00+00', 100.0000000000, 106.0000000000, 98.0000000000, 106.0000000000, 8.0000000000, 826.0000000000, 5, 103.2500000000, false),
	('ETH/USD', 60, '2023-01-02 00:00:00+00', 10.5000000000, 10.5000000000, 10.5000000000, 10.5000000000, 0.0000000200, 0.0000002100, 2, 10.5000000000, false),
	('ETH/USD', 240, '2023-01-02 00:00:00+00', 10.5000000000, 10.5000000000, 10.5000000000, 10.5000000000, 0.0000000200, 0.0000002100, 2, 10.5000000000, false),
	('ETH/USD', 720, '2023-01-02 00:00:00+00', 10.5000000000, 10.5000000000, 10.5000000000, 10.5000000000, 0.0000000200, 0.0000002100, 2, 10.5000000000, false),
	('ETH/USD', 1440, '2023-01-02 00:00:00+00', 10.5000000000, 10.5000000000, 10.5000000000, 10.5000000000, 0.0000000200, 0.0000002100, 2, 10.5000000000, false),
	('ETH/USD', 10080, '2023-01-02 00:00:00+00', 10.5000000000, 10.5000000000, 10.5000000000, 10.5000000000, 0.0000000200, 0.0000002100, 2, 10.5000000000, false),
	('LTC/USD', 240, '2022-12-26 00:00:00+00', 70.0000000000, 80.0000000000, 65.0000000000, 79.0000000000, 40.0000000000, NULL, 10, NULL, false),
	('LTC/USD', 720, '2022-12-26 00:00:00+00', 70.0000000000, 80.0000000000, 65.0000000000, 79.0000000000, 40.0000000000, NULL, 10, NULL, false),
	('LTC/USD', 1440, '2022-12-26 00:00:00+00', 70.0000000000, 80.0000000000, 65.0000000000, 79.0000000000, 40.0000000000, NULL, 10, NULL, false),
	('LTC/USD', 60, '2023-01-02 00:00:00+00', 60.0000000000, 61.0000000000, 59.0000000000, 60.5000000000, 2.0000000000, NULL, 3, NULL, false),
	('LTC/USD', 10080, '2022-12-26 00:00:00+00', 70.0000000000, 80.0000000000, 65.0000000000, 79.0000000000, 40.0000000000, NULL, 10, NULL, false),
	('LTC/USD', 240, '2023-01-02 00:00:00+00', 60.0000000000, 61.0000000000, 59.0000000000, 60.5000000000, 2.0000000000, NULL, 3, NULL, false),
	('LTC/USD', 720, '2023-01-02 00:00:00+00', 60.0000000000, 61.0000000000, 59.0000000000, 60.5000000000, 2.0000000000, NULL, 3, NULL, false),
	('LTC/USD', 1440, '2023-01-02 00:00:00+00', 60.0000000000, 61.0000000000, 59.0000000000, 60.5000000000, 2.0000000000, NULL, 3, NULL, false),
	('LTC/USD', 10080, '2023-01-02 00:00:00+00', 60.0000000000, 61.0000000000, 59.0000000000, 60.5000000000, 2.0000000000, NULL, 3, NULL, false),
	('PEPE/USD', 60, '2023-01-02 00:00:00+00', 0.0000000001, 0.0000000003, 0.0000000001, 0.0000000002, 12345678901234567890.0000000001, NULL, 1, NULL, false),
	('PEPE/USD', 240, '2023-01-02 00:00:00+00', 0.0000000001, 0.0000000003, 0.0000000001, 0.0000000002, 12345678901234567890.0000000001, NULL, 1, NULL, false),
	('PEPE/USD', 720, '2023-01-02 00:00:00+00', 0.0000000001, 0.0000000003, 0.0000000001, 0.0000000002, 12345678901234567890.0000000001, NULL, 1, NULL, false),
	('PEPE/USD', 1440, '2023-01-02 00:00:00+00', 0.0000000001, 0.0000000003, 0.0000000001, 0.0000000002, 12345678901234567890.0000000001, NULL, 1, NULL, false),
	('PEPE/USD', 10080, '2023-01-02 00:00:00+00', 0.0000000001, 0.0000000003, 0.0000000001, 0.0000000002, 12345678901234567890.0000000001, NULL, 1, NULL, false),
	('LTC/USD', 5, '2022-12-26 00:00:00+00', 70.0000000000, 80.0000000000, 65.0000000000, 79.0000000000, 40.0000000000, NULL, 10, NULL, true),
	('LTC/USD', 15, '2022-12-26 00:00:00+00', 70.0000000000, 80.0000000000, 65.0000000000, 79.0000000000, 40.0000000000, NULL, 10, NULL, true),
	('LTC/USD', 30, '2022-12-26 00:00:00+00', 70.0000000000, 80.0000000000, 65.0000000000, 79.0000000000, 40.0000000000, NULL, 10, NULL, true),
	('LTC/USD', 60, '2022-12-26 00:00:00+00', 70.0000000000, 80.0000000000, 65.0000000000, 79.0000000000, 40.0000000000, NULL, 10, NULL, true);
INSERT INTO public.running_jobs VALUES
	('6ba7b811-9dad-11d1-80b4-00c04fd430c8', 'recording', '{BTC/USD}', '{}', 'old-host', 4711, '2023-01-02 00:00:00+00', '2023-01-02 00:00:00+00', NULL, '1 of 1 pair live', NULL);
INSERT INTO public.trades VALUES
	(1, 'BTC/USD', '2023-01-02 00:00:10.25+00', 100.0000000000, 0.5000000000, 'buy', 'market', ''),
	(2, 'BTC/USD', '2023-01-02 00:00:50+00', 104.0000000000, 1.5000000000, 'sell', 'limit', ''),
	(3, 'BTC/USD', '2023-01-02 00:01:30.123456+00', 102.0000000000, 2.0000000000, 'buy', 'limit', ''),
	(4, 'BTC/USD', '2023-01-02 00:07:00+00', 98.0000000000, 1.0000000000, 'sell', 'market', ''),
	(5, 'BTC/USD', '2023-01-02 02:00:00+00', 106.0000000000, 3.0000000000, 'buy', 'market', ''),
	(6, 'BTC/USD', '2023-01-02 02:01:00+00', 101.0000000000, 1.0000000000, 'sell', 'market', ''),
	(8, 'BTC/USD', '2023-01-02 05:00:00+00', 103.0000000000, 1.0000000000, 'buy', 'limit', ''),
	(-9223372036854775808, 'ETH/USD', '2023-01-02 00:00:00+00', 10.5000000000, 0.0000000100, '', NULL, NULL),
	(-9223372036854775807, 'ETH/USD', '2023-01-02 00:00:00+00', 10.5000000000, 0.0000000100, '', NULL, NULL),
	(-9223372036854775806, 'ETH/USD', '2023-01-03 00:00:00+00', 11.5000000000, 2.0000000000, '', NULL, NULL);
INSERT INTO public.unproven_ranges VALUES
	('ETH/USD', 'trades', '{["2023-01-03 00:00:00+00","2023-01-03 00:00:01+00")}'),
	('DOT/USD', 'candles_1h', '{["2023-01-02 00:00:00+00","2023-01-02 02:00:00+00")}'),
	('BTC/USD', 'trades', '{["2023-01-01 00:00:00+00","2023-01-02 00:00:00+00")}');
SELECT pg_catalog.setval('public.pending_refresh_id_seq', 7, true);
SELECT pg_catalog.setval('public.trades_id_seq', -9223372036854775806, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.candles
    ADD CONSTRAINT pk_candles PRIMARY KEY ("timestamp", symbol, interval_minutes);
ALTER TABLE ONLY public.data_coverage
    ADD CONSTRAINT pk_data_coverage PRIMARY KEY (symbol, data_type, source);
ALTER TABLE ONLY public.data_sync_status
    ADD CONSTRAINT pk_data_sync_status PRIMARY KEY (symbol, data_type);
ALTER TABLE ONLY public.dropped_ranges
    ADD CONSTRAINT pk_dropped_ranges PRIMARY KEY (symbol, data_type);
ALTER TABLE ONLY public.flush_positions
    ADD CONSTRAINT pk_flush_positions PRIMARY KEY (stream);
ALTER TABLE ONLY public.paused_jobs
    ADD CONSTRAINT pk_paused_jobs PRIMARY KEY (job_id);
ALTER TABLE ONLY public.pending_refresh
    ADD CONSTRAINT pk_pending_refresh PRIMARY KEY (symbol, id);
ALTER TABLE ONLY public.retention_periods
    ADD CONSTRAINT pk_retention_periods PRIMARY KEY (table_name);
ALTER TABLE ONLY public.rolled_candles
    ADD CONSTRAINT pk_rolled_candles PRIMARY KEY (symbol, interval_minutes, "timestamp");
ALTER TABLE ONLY public.running_jobs
    ADD CONSTRAINT pk_running_jobs PRIMARY KEY (id);
ALTER TABLE ONLY public.trades
    ADD CONSTRAINT pk_trades PRIMARY KEY ("timestamp", symbol, id);
ALTER TABLE ONLY public.unproven_ranges
    ADD CONSTRAINT pk_unproven_ranges PRIMARY KEY (symbol, data_type);
CREATE INDEX ix_candles_symbol_interval_minutes_timestamp ON public.candles USING btree (symbol, interval_minutes, "timestamp" DESC);
CREATE INDEX ix_trades_symbol_timestamp ON public.trades USING btree (symbol, "timestamp" DESC);
CREATE TRIGGER note_deleted_minutes AFTER DELETE ON public.candles REFERENCING OLD TABLE AS changed FOR EACH STATEMENT WHEN ((current_setting('kraken_db.retention'::text, true) IS DISTINCT FROM 'on'::text)) EXECUTE FUNCTION public.note_changed_minutes();
CREATE TRIGGER note_dropped_minutes AFTER INSERT OR DELETE OR UPDATE ON public.dropped_ranges FOR EACH ROW WHEN ((current_setting('kraken_db.retention'::text, true) IS DISTINCT FROM 'on'::text)) EXECUTE FUNCTION public.note_dropped_minutes();
CREATE TRIGGER note_inserted_minutes AFTER INSERT ON public.candles REFERENCING NEW TABLE AS changed FOR EACH STATEMENT WHEN ((current_setting('kraken_db.retention'::text, true) IS DISTINCT FROM 'on'::text)) EXECUTE FUNCTION public.note_changed_minutes();
CREATE TRIGGER note_replaced_minutes AFTER UPDATE ON public.candles REFERENCING OLD TABLE AS changed FOR EACH STATEMENT WHEN ((current_setting('kraken_db.retention'::text, true) IS DISTINCT FROM 'on'::text)) EXECUTE FUNCTION public.note_changed_minutes();
CREATE TRIGGER note_truncated_minutes AFTER TRUNCATE ON public.candles FOR EACH STATEMENT EXECUTE FUNCTION public.note_truncated_minutes();
CREATE TRIGGER note_updated_minutes AFTER UPDATE ON public.candles REFERENCING NEW TABLE AS changed FOR EACH STATEMENT WHEN ((current_setting('kraken_db.retention'::text, true) IS DISTINCT FROM 'on'::text)) EXECUTE FUNCTION public.note_changed_minutes();
