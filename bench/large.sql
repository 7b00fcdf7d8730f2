-- For large.py: two years of mail in SQLite, as runs leave them. For PostgreSQL large.py extends million.sql.

WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1060000),
mails AS (SELECT n, CASE WHEN n > 1000000 THEN 'pending' WHEN n % 100 < 90 THEN 'sent' WHEN n % 100 < 95 THEN 'failed'
                         WHEN n % 100 < 98 THEN 'cancelled' WHEN n % 1000 < 990 THEN 'expired' ELSE 'in_doubt' END AS state,
                 strftime('%Y-%m-%d %H:%M:%f', 'now', (-60 * n) || ' seconds') AS made FROM numbers)
INSERT INTO mail_reservations (recipients, subject, body_text, tag, priority, status, created_at, scheduled_at,
                               finished_at, sent_at, reply_code, reply_text, relay, last_error, attempts, claim_no)
SELECT '"Name ' || n || '" <to' || n || '@example.org>', 'Order ' || n, 'Thank you.',
       CASE WHEN n % 1000 = 0 THEN 'rare' WHEN n % 3 = 0 THEN 'news' ELSE 'orders' END, n % 30, state, made, made,
       CASE WHEN state IN ('sent', 'failed', 'cancelled', 'expired') THEN made END, CASE state WHEN 'sent' THEN made END,
       CASE state WHEN 'sent' THEN 250 WHEN 'failed' THEN CASE n % 4 WHEN 0 THEN 452 ELSE 550 END END,
       CASE state WHEN 'sent' THEN '2.0.0 Ok: queued' WHEN 'failed' THEN '5.1.1 no such user' END, 'relay:25',
       CASE state WHEN 'failed' THEN '550 5.1.1 no such user' END,
       CASE WHEN state IN ('sent', 'failed', 'in_doubt') THEN 1 ELSE 0 END,
       CASE WHEN state IN ('sent', 'failed', 'in_doubt') THEN 2 ELSE 0 END
FROM mails;
