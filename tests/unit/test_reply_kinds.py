"""Whom a relay's refusal speaks of: texts that relays were seen to write, each with its right reading."""

from __future__ import annotations

import re
import time

import pytest

from mailbatch.domain.outcome import Reply
from mailbatch.domain.reply_kinds import DAY, HOUR, KINDS, OF_THE_RELAY, OTHER, Concern, gist, hinted, kind_of

RATE = """
454 4.7.0 Throttling failure: Maximum sending rate exceeded.
454 Throttling failure: Maximum sending rate exceeded
450 4.2.1 Peak SMTP relay limit exceeded for customer. This is a temporary error.
450 Mail send limit exceeded.
450-Requested mail action not taken: mailbox unavailable 450 Mail send limit exceeded.
452 4.4.5 Messages per second limit exceeded
550 Too many messages. Try again in 92 seconds.
550 5.7.0 Requested action not taken: too many emails per second
451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (AS77712345)
451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)
421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints
421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred
421 4.7.0 Try again later, closing connection. a1si2345678plb.1 - gsmtp
421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address
450 4.7.28 Gmail has detected an unusual rate of mail containing one of your URL domains
421 4.7.1 Messages to example.com deferred due to excessive volume
421 [HCM1] Too much mail
421 RP-001 (SNT004-MC1F14) Unfortunately, some messages from 192.0.2.1 weren't sent
450 4.7.1 Error: too much mail from 192.0.2.1
550 Ip frequency limited
550 Sender frequency limited
550 Domain frequency limited
451 RP:QRC 163 smtp3, please try again later
421 HL:IFC 126 mx12
451 4.7.1 Too many messages, please try again later
450 4.4.5 congestion
451 4.7.1 You are sending too fast, slow down
421 4.4.2 Message submission rate for this client has exceeded the configured limit
454 4.7.0 Too many login attempts, please try again later.
421 web.de (mxweb012) Nemesis ESMTP Service not available Too many messages from your IP, try again in a few hours
451 4.3.0 Rate limit exceeded, try again later
450 4.7.1 <info@example.com>: Sender address rejected: Rate limit reached
451 4.5.1 The sender has exceeded message rate limit. Try again later.
451 4.7.1 Sending too many emails in a short time
450 4.7.1 Rate of mails exceeded, slow down
421 4.7.0 sending rate too high
452 4.2.0 Too many emails, please slow down
450 You have sent too many messages recently
451 4.7.0 Message flood detected
429 Too many requests
452 4.5.3 Too many recipients in a short time
450 4.7.1 client rate limit exceeded
421 4.7.0 mail sending throttled
450 5 messages per minute limit reached
550 5.7.0 Too many emails per second. Please upgrade your plan
450 4.7.1 Too many emails sent recently, try again in 60 seconds
451 4.7.1 Sending rate limit exceeded, please slow down
452 4.3.1 rate limit exceeded
550 5.7.1 rate limit exceeded
421 Rate limit exceeded. Try later
421 Too many messages, slow down
450 Requested action aborted: too much mail
451 Throttled
421 4.7.0 Temporarily throttled
554 5.7.1 Sending limits: too many mails per second
451 4.3.2 Server busy, please try again later
421 4.4.5 Server busy, try later
450 4.7.1 message rate exceeded (10/min)
451 4.7.1 You've exceeded 20 messages/minute
452 4.7.0 Mail rate too high
421 4.7.0 temporarily rate limited
421 4.7.0 Too many requests from this IP
451 4.7.1 Excessive number of messages, try later
421 4.7.1 : (DYN:T1) messages temporarily deferred due to rate
451 4.7.1 Try again later: you are sending too much
450 4.7.0 sending velocity too high
554 Reject by frequency
"""

QUOTA = """
454 4.7.0 Throttling failure: Daily message quota exceeded.
454 Throttling failure: Daily message quota exceeded
550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to https://support.google.com
550 5.4.5 Daily user sending quota exceeded. x12-20020a05
550 5.4.5 Daily SMTP relay limit exceeded for user.
550 5.7.1 Daily SMTP relay limit exceeded for customer. For more information see our site
452 4.5.3 Daily message limit exceeded
452 Too many recipients received this hour (throttled)
451 Authentication failed: Maximum credits exceeded
450 4.7.1 <a@b.example>: Recipient address rejected: Policy Rejection- Quota Exceeded.
554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message
550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients
550 5.7.232 Your message can't be sent because your trial tenant has exceeded its daily limit for sending email
552 This message would take you over your relay quota of 500
552 5.2.0 your message would take you over your relay quota
550 5.7.1 Your mail limit has been reached
550 5.2.2 Submission quota exceeded
550 Domain example.com has exceeded the max emails per hour (150/150 (100%)) allowed. Message discarded.
451 Domain example.com has exceeded the max defers and failures per hour (5/5 (100%)) allowed.
450 Hourly sending limit reached
550 You have exceeded your monthly sending limit
452 You have reached your daily email sending quota.
535 5.7.8 The email limit is reached. Please upgrade your plan https://mailtrap.example/billing
550 RP:TRC 163 smtp8
554 MI:STC 163 smtp5
550 RP:ORQ 163 smtp2
554 HL:ITC 126 mx3
451 MI:SFQ 163 smtp11
554 5.7.1 You have exceeded the maximum number of messages per day
451 4.7.1 Sending limit exceeded
550 5.4.6 Sender quota exceeded
550 5.2.1 Exceed Sending Limit (hourly)
421 4.7.0 Your account has exceeded its sending limit
552 5.4.5 User has exceeded the 24-hour sending limit
450 4.7.1 Your message quota of 200 messages per hour is exceeded
550 Your account has no credits left
421 4.7.0 Daily sending quota exceeded, try again tomorrow
450 Daily quota reached
452 4.5.3 You have reached the maximum number of recipients per day
550 5.7.1 Hourly limit of 500 mails reached for user web12
554 5.7.1 Sender quota exceeded for today
451 4.3.0 Account hourly message limit reached
550 Sending limit reached for this month
535 5.7.0 Your account is out of email credits
550 5.7.1 SMTP quota exceeded
451 4.7.1 user@x.example: sending quota exceeded
550 Message limit exceeded for sender a@b.example
450 4.7.1 Quota exceeded for sending domain example.org
554 You have exceeded your message quota
421 Outgoing message limit exceeded
553 5.7.1 exceeded email sending limit for the day
452 4.3.1 Daily quota exceeded
451 4.7.0 sandbox: 200 messages per 24 hours exceeded
552 5.7.0 Number of recipients per day exceeded
550 5.7.1 Sender has exceeded daily recipient quota
454 4.7.0 Daily message quota exceeded
421 4.7.0 Message quota for today exceeded
554 5.7.1 Hourly email limit exceeded
450 4.7.0 Hourly quota exceeded for user ann
550 5.7.1 <ann@example.org>: you have reached your hourly sending limit
451 4.7.1 Mail limit per hour reached
452 4.7.1 Maximum number of emails for today reached
550 Your monthly quota is exhausted
553 sorry, your daily relay limit is reached (#5.7.1)
571 5.7.1 quota for sending exceeded
550 5.7.1 User ann over daily limit of 500
450 User sent too many messages today
450 4.2.1 You have reached a Gmail sending limit
550 5.4.5 Daily sending quota exceeded
550 You exceeded your sending quota. Upgrade your plan.
451 4.5.0 SMTP quota reached for this account
554 5.2.2 SendAs quota exceeded
554 Too many messages sent in 24 hours
550 5.7.64 TenantAttribution; quota exceeded
550 5.7.1 [M-001] Your account has exceeded the quota of 300 emails a day
550 Message rejected: your plan allows 100 emails per day
554 5.7.0 Reject, you have used all of your monthly emails
451 4.7.1 Policy daemon: quota of outgoing messages exceeded
554 5.7.1 Limit of sent emails exceeded. Contact support
"""

ACCOUNT = """
554 Message rejected: Sending suspended for this account. For more information, please check the inbox
554 Message rejected: Sending paused for this account
454 4.7.1 <ann@example.org>: Relay access denied
454 4.7.0 Temporary authentication failure
535 5.7.8 Error: authentication failed
535 Authentication Credentials Invalid
534 5.7.9 Application-specific password required.
530 5.7.0 Authentication required
530 5.7.0 Must issue a STARTTLS command first
530 5.7.57 Client was not authenticated to send anonymous mail during MAIL FROM
550 Unauthenticated senders not allowed
525 5.7.1 Unauthorized IP address
502 5.7.0 Your SMTP account is not yet activated. Contact us at contact@relay.example
550 5.7.1 Your account has been suspended
421 4.7.0 Account temporarily disabled
550 5.4.6 Unusual sending activity detected. Please try after sometime
550 5.1.8 Access denied, bad outbound sender AS(42004)
550 5.7.705 Access denied, tenant has exceeded threshold
550 5.7.708 Access denied, traffic not accepted from this IP
550 5.7.501 Access denied, spam abuse detected
554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.example.org
554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied
550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent: part of their network is on our block list (S3150)
554 HL:IHU 163 mx7
450 WM:BLI 163 mx1
554 5.7.1 Sending for your organization is disabled
421 Domain example.com is not allowed to send: The domain is unverified
550 Account suspended
550 5.7.1 Outgoing mail from this account is blocked
554 5.7.1 Your access to this mail system has been rejected due to the sending MTA's poor reputation
535 5.7.3 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant
550 5.7.0 Your IP address has been blocked
451 Account is temporarily locked
550 SMTP access disabled for this account
530 5.5.1 Authentication Required
503 5.5.1 authentication required
550 5.7.1 Authentication required
554 5.7.1 Sending blocked: payment overdue
535 5.7.139 Authentication unsuccessful, the user credentials were incorrect
535 5.7.8 Username and Password not accepted.
550 Account disabled
550 5.7.1 Account is blocked for sending
454 4.7.0 Account locked, contact support
550 5.7.1 Your email service has been suspended due to non-payment
554 5.7.1 Email account suspended for abuse
550 SMTP account blocked
550 Sender account is suspended
550 5.7.1 We have temporarily disabled your account
421 Your account is under review
451 4.7.1 Sending from this account is paused
550 5.7.1 Sending disabled
554 5.7.1 Outbound mail disabled for this customer
550 Subscription expired
530 SMTP authentication is required.
454 4.7.1 Relaying denied
451 4.7.1 unable to relay for a@b.example
550 User is not authorized to send: account not verified
554 Email sending has been suspended
571 Account not activated
554 5.7.1 Sender IP blacklisted, see https://relay.example
451 IP temporarily blacklisted
550 5.7.606 Access denied, banned sending IP [192.0.2.1]
554 5.7.1 SMTP service suspended for non-payment
550 Sending privileges revoked for this account
550 5.7.1 API key revoked
550 5.7.1 SMTP credentials disabled
550 5.7.1 You must verify your domain before sending
550 5.7.1 Your trial has ended
"""

SYSTEM = """
452 4.3.1 Insufficient system storage
452 4.3.1 Insufficient system resources (UsedDiskSpace)
452 4.3.1 Out of memory
452 no space left
452 Insufficient system storage
552 5.3.1 Mail system full
451 4.3.0 Error: queue file write error
421 4.3.2 System not accepting network messages
421 4.3.0 the server is down for maintenance
451 4.3.0 Temporary lookup failure
451 4.3.5 Server configuration error
421 the relay broke 3 times
421 4.3.2 Service shutting down
452 4.3.1 Not enough disk space
451 4.3.2 System temporarily overloaded
452 out of disk space, try later
451 4.3.0 Mail server temporarily rejected message.
452 4.3.1 temporary storage problem
450 4.3.0 internal error
452 4.3.1 No space left on device
451 4.3.0 mail system is busy? internal software error
452 4.3.1 Mail storage exhausted
452 System storage exceeded
451 insufficient resources
431 4.3.1 Not enough storage space
552 5.3.1 Mail queue full
451 server is overloaded
451 Temporary local problem: disk full
"""

CONNECTION = """
421 Too many concurrent SMTP connections
421 Too many concurrent SMTP connections; please try again later.
421 4.4.2 mail.example too many messages in one session
421 too many messages in this connection
421 Max message per connection reached
421 4.4.5 - Too many connections from your host.
421 4.7.0 mx1.example Error: too many connections from 192.0.2.1
432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.example/concurrent_sending
432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded
421 RP-002 (BAY004-MC1F7) Unfortunately, some messages on this connection weren't sent
421 RP-003 (BAY004-MC1F7) too many
421 4.3.2 The maximum number of concurrent server connections has exceeded a limit, closing transmission channel
421 4.3.2 Too many open connections.
421 4.3.2 Connection rate limit exceeded.
421 4.7.0 Too many sessions opened
452 4.5.3 Too many messages in this session
421 Exceeded max messages per session
451 Timeout waiting for data from client.
421 4.4.2 mx.example Error: timeout exceeded
421 4.7.0 mx.example Error: too many errors
450 MI:DMC 163 smtp5
421 HL:ICC 163 mx2
421 Session limit exceeded
554 5.7.1 too many simultaneous connections
421 4.7.0 You have sent too many mails over this connection
421 Maximum number of recipients for this session reached
421 Too many connections
421 4.7.1 Connection limit exceeded
421 mail limit per connection reached
450 4.7.0 maximum number of mails per session exceeded
421 only 10 messages per connection allowed
421 too many mails per session, reconnect
421 4.7.0 Only one connection at a time, please
421 SMTP connection limit for your IP reached
421 You have reached the limit of messages in one SMTP session
452 4.3.2 Too many transactions on this connection
421 4.2.1 maximum concurrent connections exceeded
421 Maximum messages per connection (3) exceeded
421 4.5.3 Maximum recipients per session exceeded
421 4.3.2 All server ports are busy
421 Only 5 simultaneous connections per IP are allowed
421 4.5.0 This connection has transferred 100 messages; closing
421 4.4.2 Command timeout, closing
550 Exceeding outbound thread limit
"""

RECIPIENT = """
450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see http://postgrey.example/
451 4.7.1 Greylisting in action, please come back in 00:04:59
452 4.2.2 Mailbox full
452 4.2.2 The email account that you tried to reach is over quota. Please direct the recipient - gsmtp
552 5.2.2 The recipient's inbox is out of storage space.
452 4.2.2 Quota exceeded (mailbox for user is full)
452 Quota exceeded (mailbox for user is full)
452 The mailbox of this user is over quota
552 5.2.2 <a@b.example>: mailbox over quota
450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages
450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message at a later time.
550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages
450 4.2.1 The user is receiving too many messages right now
452 4.2.1 The recipient's daily limit is exceeded
451 4.5.1 The recipient <a@b.example> has exceeded their message rate limit. Try again later.
451 Ratelimit exceeded for mailbox a@b.example. Try again later.
550 5.2.121 The recipient has exceeded their limit for the number of messages they can receive per hour
432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded
554 5.2.0 STOREDRV.Deliver.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded
450 mailbox busy
450 4.1.8 Sender address rejected: Domain not found
550 5.1.1 <a@b.example>: Recipient address rejected: User unknown in virtual mailbox table
550 5.2.1 The email account that you tried to reach is disabled
550 5.1.1 The email account that you tried to reach does not exist
552 5.2.2 user quota exceeded
452 4.2.2 Over quota
550 5.2.1 <a@b.example>: Mailbox disabled, not accepting messages
452 4.2.2 <a@b.example> insufficient storage space in mailbox
452 4.2.2 mailbox quota exceeded
552 Mailbox quota exceeded
552 Quota exceeded
422 The recipient's mailbox is over quota
450 4.2.2 User is over quota
550 User account is over quota
452 4.2.2 The email account is over its storage quota
550 5.2.1 account disabled
550 5.1.1 mailbox suspended
450 4.2.1 Recipient's daily message limit exceeded
452 Recipient has reached its daily limit of messages
450 4.2.1 mailbox temporarily disabled
450 4.7.1 Recipient address rejected: user has exceeded the number of messages that may be received per day
552 5.2.2 Over quota
552 RCPT TO: user over quota
452 4.2.2 user's mailbox is full
422 4.2.2 Recipient mailbox full
550 5.2.2 <x@y.example>: mailbox quota exceeded for this recipient
450 4.2.1 recipient mailbox is receiving messages too fast
550 5.2.1 user account disabled
450 4.2.0 recipient is over daily receive limit
452 4.2.2 Not enough storage space in the user's mailbox
554 5.2.2 mailbox full; quota of 500 MB exceeded
452 4.2.1 mailbox has reached its hourly message limit
550 Recipient's account is suspended
450 4.2.1 User x has received too many messages today
450 4.2.2 <a@b.example>: user is over daily quota of received mail
550 User a@b.example has too many messages in mailbox
550 5.4.1 Recipient address rejected: Access denied. AS(201806281)
554 delivery error: dd This account has been disabled or discontinued [#102]
559 Invalid rcptto [@sm060301]
"""

MAIL = """
552 5.3.4 Message size exceeds fixed maximum message size
552 5.3.4 Header size exceeds fixed maximum size
452 4.3.4 Message too big for system
552 5.2.3 Your message exceeded our message size limits
554 5.7.1 Message rejected as spam
550 5.7.1 Message rejected under suspicion of SPAM
550 Administrative prohibition
554 5.4.6 Too many hops
554 5.7.1 <ann@example.org>: Relay access denied
550 5.7.0 From address is not one of your addresses
554 Message rejected: Email address is not verified. The following identities failed the check: a@b.example
550 5.7.26 Unauthenticated email from example.com is not accepted due to domain's DMARC policy
550 5.7.515 Access denied, sending domain example.com does not meet the required authentication level
452 4.5.3 Too many recipients
452 Too many recipients
550 5.5.3 Too many recipients
552 5.7.0 This message was blocked because its content presents a potential security issue
451 4.4.1 no answer from host
451 4.7.1 Try again later
451 4.7.5 policy
451 later
499 4.6.1 hm
554 Transaction failed
550 5.7.1 Our system has detected that this message is likely unsolicited mail
554 5.7.1 Message contains spam or virus
550 5.7.1 Content rejected by daily updated filter
550 Message contains too many URLs per message
550 5.6.0 Lone CR or LF
552 message exceeds the maximum size
554 5.7.1 URL in this email blocked by xyz block list
550 5.7.1 SPF check failed: too many DNS lookups
550 5.7.1 blocked by policy: hour glass
554 5.4.0 Error: too many hops
550 5.5.0 Requested action not taken
550 5.7.23 SPF validation failed
451 4.7.24 The SPF record of the sending domain has one or more suspicious entries
452 4.5.3 Error: too many recipients
452 Too many recipients for this message
550 5.7.1 Plan your day with our limited offer: spam
552 5.3.4 Message too large: limit is 10 MB
552 Message size limit exceeded
554 5.7.1 message exceeds maximum attachments limit
550 5.7.1 Header line limit exceeded
554 5.6.0 too many MIME parts
550 5.7.1 Rejected: HELO does not match
554 hop count limit exceeded
550 DKIM signature expired
550 5.7.1 domain of sender blocked by SPF
550 Sender verify failed
550 5.7.1 This message was blocked as spam. Limit your mail
451 4.7.1 DNS timeout for a domain
450 4.7.1 Client host: cannot find your hostname
554 5.7.9 Message not accepted for policy reasons. See https://postmaster.example/error-codes
550 5.7.1 Suspected phishing: "your account has been suspended"
554 5.7.1 Message rejected: content matches the rule "account suspended"
550 5.7.1 Your message was blocked because your credentials in the link expired
554 5.7.1 phishing: "verify your account"
"""

TABLE = {
    Concern.RATE: RATE,
    Concern.QUOTA: QUOTA,
    Concern.ACCOUNT: ACCOUNT,
    Concern.SYSTEM: SYSTEM,
    Concern.CONNECTION: CONNECTION,
    Concern.RECIPIENT: RECIPIENT,
    Concern.MAIL: MAIL,
}


def read(line: str) -> Reply:
    return Reply(int(line[:3]), line[4:])


@pytest.mark.parametrize(
    ("line", "concern"), [(line, concern) for concern, lines in TABLE.items() for line in lines.strip().splitlines()]
)
def test_a_text_that_relays_write_is_read_as_what_it_speaks_of(line, concern):
    kind = kind_of(read(line))
    # A mailbox's size limit and a mail that is too large are both for this mail to this recipient alone.
    if "5.2.3" in line:
        assert kind.concern in {Concern.MAIL, Concern.RECIPIENT}
    else:
        assert kind.concern is concern, kind.name


@pytest.mark.parametrize(
    "written",
    [
        "<daily-limit-exceeded@example.org>",
        "<throttled@account-suspended.example.com>",
        '<"Daily quota exceeded"@example.org>',
        "'too.many.connections@example.org'",
        '"sending suspended"@example.org',
        "daily-limit-exceeded.example.org",
        "https://example.org/daily-limit-exceeded",
    ],
)
def test_who_chooses_an_address_or_a_link_does_not_choose_what_a_reply_means(written):
    assert kind_of(read(f"550 5.1.1 {written}: Recipient address rejected: User unknown")).concern is Concern.RECIPIENT
    assert kind_of(read(f"554 5.7.1 Message rejected as spam, because of {written}")).concern is Concern.MAIL
    assert kind_of(read(f"451 4.7.1 Try again later ({written})")).concern is Concern.MAIL


@pytest.mark.parametrize(
    ("line", "period"),
    [
        ("454 4.7.0 Throttling failure: Daily message quota exceeded.", DAY),
        ("550 5.7.1 Daily SMTP relay limit exceeded for customer", DAY),
        ("451 Authentication failed: Maximum credits exceeded", DAY),
        ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", DAY),
        ("452 Too many recipients received this hour (throttled)", HOUR),
        ("550 Domain example.com has exceeded the max emails per hour (150/150 (100%)) allowed.", HOUR),
        ("550 5.7.1 Your mail limit has been reached", None),
    ],
)
def test_a_quota_tells_for_how_long_it_counts(line, period):
    assert kind_of(read(line)).period == period


@pytest.mark.parametrize("line", [*QUOTA.strip().splitlines(), *ACCOUNT.strip().splitlines()])
def test_one_reply_of_a_quota_or_an_account_is_enough_to_hold_the_relay(line):
    assert kind_of(read(line)).holds


def test_what_speaks_of_a_mail_or_its_recipient_never_holds_the_relay():
    assert all(kind.concern in OF_THE_RELAY for kind in KINDS if kind.holds)


def test_every_kind_names_the_rule_that_it_follows():
    assert all(re.search(r"RFC \d+ §", kind.rule) for kind in KINDS)
    assert KINDS[-1] is OTHER


@pytest.mark.parametrize(
    "pair",
    [
        ("550 5.7.1 <ann@example.org>: refused (id 4711abc)", "550 5.7.1 <bob@example.com>: refused (id 0815xyz)"),
        ("554 no mail from 192.0.2.1 today", "554 no mail from 192.0.2.77 today"),
        ("550 see https://x.example/a?b=1", "550 see https://x.example/c?d=2"),
    ],
)
def test_the_gist_of_a_text_is_without_addresses_and_numbers(pair):
    one, other = map(read, pair)
    assert gist(one) == gist(other)


def test_the_gist_tells_different_texts_apart():
    assert gist(read("550 5.7.1 spam")) != gist(read("550 5.7.1 virus"))
    assert gist(read("550 5.7.1 no")) != gist(read("554 5.7.1 no"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("Try again in an hour", HOUR), ("retry after 1 day", DAY), ("please wait 2 days", 2 * DAY)]
)
def test_a_time_that_a_relay_names_in_words_is_read(text, seconds):
    assert hinted(Reply(451, text)) == seconds


def test_a_long_text_is_read_in_no_time():
    began = time.thread_time()
    for text in ("your limit " * 45, "exceeded " * 55, "mailbox " * 60, "x" * 500, "daily hour plan " * 30):
        for code in (450, 550):
            kind_of(Reply(code, text[:500]))
    assert time.thread_time() - began < 1.0
