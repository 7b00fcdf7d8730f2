-- For pages.py: a million mails of thirty days in PostgreSQL, as runs leave them.
-- 86 % are sent, 3 % failed, 9 % pending (half of them due), and a few are in each other state.

INSERT INTO batch_runs (run_id, job, trigger, outcome, started_at, heartbeat_at, finished_at, duration, sent, failed)
SELECT gen_random_uuid(), 'send-all', 'beat', 'completed', at, at, at + interval '9 s', 9, 100, 3
FROM (SELECT now() - n * interval '5 min' AS at FROM generate_series(1, 8640) n) ticks;

-- One run of five hours with five thousand errors.
INSERT INTO batch_runs (run_id, job, trigger, outcome, started_at, heartbeat_at, finished_at, duration, sent, deferred)
VALUES ('00000000-0000-4000-8000-000000000007', 'send-all', 'beat', 'completed', now() - interval '10 h',
        now() - interval '5 h', now() - interval '5 h', 18000, 6000, 5000);

INSERT INTO mail_reservations (id, recipients, subject, body_text, tag, priority, status, created_at, scheduled_at,
                               finished_at, sent_at, reply_code, reply_text, relay, message_id, last_error, attempts,
                               claim_no, wire_at, run_id)
SELECT gen_random_uuid(), format('"Name %s" <to%s@example.org>', n, n), format('Order %s', n), 'Thank you.',
       CASE WHEN n % 1000 = 0 THEN 'rare' WHEN n % 3 = 0 THEN 'news' ELSE 'orders' END, n % 3, state, made,
       CASE WHEN state = 'pending' AND n % 2 = 0 THEN now() + n * interval '1 s' ELSE made END,
       CASE WHEN state IN ('sent', 'failed', 'cancelled', 'expired') THEN made + interval '4 min' END,
       CASE state WHEN 'sent' THEN made + interval '4 min' END,
       CASE state WHEN 'sent' THEN 250 WHEN 'failed' THEN CASE n % 4 WHEN 0 THEN 452 ELSE 550 END END,
       CASE state WHEN 'sent' THEN '2.0.0 Ok: queued' WHEN 'failed' THEN '5.1.1 no such user' END, 'relay:25',
       format('<%s@example.com>', n), CASE state WHEN 'failed' THEN '550 5.1.1 no such user' END,
       CASE WHEN state IN ('sent', 'failed', 'in_doubt') THEN 1 ELSE 0 END,
       CASE WHEN state IN ('sent', 'failed', 'in_doubt') THEN 2 ELSE 0 END,
       CASE state WHEN 'in_doubt' THEN made END,
       CASE WHEN made BETWEEN now() - interval '10 h' AND now() - interval '5 h 4 min'
            THEN '00000000-0000-4000-8000-000000000007'::uuid END
FROM (SELECT n, now() - n * interval '2.59 s' AS made,
             CASE WHEN n % 100 < 86 THEN 'sent' WHEN n % 100 < 89 THEN 'failed' WHEN n % 100 < 98 THEN 'pending'
                  WHEN n % 100 = 98 THEN 'cancelled' WHEN n % 1000 < 500 THEN 'expired'
                  WHEN n % 10000 < 9900 THEN 'sent' ELSE 'in_doubt' END AS state
      FROM generate_series(1, 1000000) n) mails;

INSERT INTO mail_attempts (reservation_id, claim_no, run_id, relay, ended_at, outcome, reply_code, enhanced_code,
                           reply_text)
SELECT id, 2, run_id, relay, finished_at, 'failed', reply_code, '5.1.1', reply_text
FROM mail_reservations WHERE status = 'failed';

INSERT INTO mail_attempts (reservation_id, claim_no, run_id, relay, ended_at, outcome, reply_code, enhanced_code,
                           reply_text)
SELECT id, 1, run_id, relay, finished_at, 'deferred', 451, '4.7.1', '4.7.1 greylisted'
FROM mail_reservations WHERE status = 'sent' AND run_id IS NOT NULL LIMIT 5000;

INSERT INTO run_errors (run_id, item_index, reservation_id, errors)
SELECT run_id, row_number() OVER (), reservation_id, '["451 4.7.1 greylisted"]'
FROM mail_attempts WHERE outcome = 'deferred';

INSERT INTO mail_attempts (reservation_id, claim_no, relay, ended_at, outcome, reply_text)
SELECT id, 1, relay, finished_at - interval '3 min', 'in_doubt', 'no verdict'
FROM mail_reservations WHERE status = 'sent' AND tag = 'rare' AND run_id IS NULL LIMIT 500;

INSERT INTO operator_actions (id, at, actor, action, target, affected, outcome)
SELECT gen_random_uuid(), now() - n * interval '1 h', 'cli:anna', 'cancel', '{"tag": "news"}', n, 'done'
FROM generate_series(1, 5000) n;
