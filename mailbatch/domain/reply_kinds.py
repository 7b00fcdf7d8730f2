"""The kinds of 4xx and 5xx replies: what each is about, and how long to wait after it.

This module is above 300 lines because it is one table: 300 lines of it are patterns, in the order in which they are
tried. The same table reads replies to AUTH, to EHLO and at the greeting. RFC 3463's codes decide where they are precise
enough. Many relays reuse a code for something else ("550 5.7.1 Daily limit exceeded"), so unambiguous words go first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Kind, RelayFault, Replied

if TYPE_CHECKING:
    from mailbatch.domain.outcome import Outcome, Reply


class Concern(StrEnum):
    """What a refusal is about."""

    RECIPIENT = "recipient"
    """One recipient's mailbox or address. Other recipients may go through."""
    MAIL = "mail"
    """This mail, or unknown."""
    CONNECTION = "connection"
    """This connection, or the number of connections. The mail may go at once over another one."""
    RATE = "rate"
    """How fast we send. The same mail goes through a little later."""
    QUOTA = "quota"
    """How much we may send in an hour, a day or a month. Nothing goes through until that time is over."""
    ACCOUNT = "account"
    """We may not send at all: the account is suspended, blocked or not logged in. A person must act."""
    SYSTEM = "system"
    """The relay's own storage or service. Every mail is refused until the relay is repaired."""


OF_THE_RELAY = frozenset({Concern.RATE, Concern.QUOTA, Concern.ACCOUNT, Concern.SYSTEM})
"""A reply with one of these concerns holds for every mail."""
_REFUSED = frozenset({Kind.DEFERRED, Kind.REJECTED})
_HOLDING = OF_THE_RELAY - {Concern.RATE}

HOUR, DAY, MONTH = 3600.0, 86_400.0, 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyKind:
    """One kind of refusal: how to recognize it, and how long to wait after it.

    ``enhanced`` and ``text`` are patterns. ``codes`` are reply codes, for replies without an enhanced code. One of the
    three must match. A reply is not of this kind if its text matches ``unless``, or if its class is not ``only`` (4
    or 5). ``least`` and ``most`` bound the plain back-off before its jitter, in multiples of ``RETRY_BACKOFF``.
    ``period``: seconds after which a quota of this kind is full again.
    """

    name: str
    concern: Concern
    rule: str
    enhanced: str | None = None
    codes: frozenset[int] = frozenset()
    text: str | None = None
    unless: str | None = None
    only: int | None = None
    least: float = 0.0
    most: float = float("inf")
    period: float | None = None

    @property
    def holds(self) -> bool:
        """Whether to send the relay nothing more, unless it accepts mails that come after this one."""
        return self.concern in _HOLDING


# --- the words that relays use, from which the patterns are built --------------------------------------------------

_DAY = r"\b(?:daily|day|day's|days|today|24[ -]?h(?:(?:ou)?rs?)?)\b"
_HOUR = r"\b(?:hourly|hour|hours|hour's|15 min(?:ute)?s?)\b"
_MONTH = r"\b(?:monthly|month|month's|credits?|plan|plan's|trial)\b"
_LIMIT = r"(?:limit(?:s|ation)?|quotas?|maximum|max|allowance|allotment|cap|credits?|allowed|allows)"
_OVER = (
    r"(?:exceed\w*|exceeds|reach(?:ed|es)?|hit|over|used up|exhausted|depleted|maxed|insufficient|not enough|"
    r"no (?:more|remaining)|out of|run out|surpassed|expired|too many|used all)"
)
_USED_UP = rf"(?:{_LIMIT}\b.{{0,80}}?\b{_OVER}|\b{_OVER}\b.{{0,80}}?{_LIMIT})\b"
_ABOUT_SENDING = (
    r"(?:\byour?\b|send(?:ing|er|ers)?\b|\bsent\b|relay|\bsmtp\b|submission|outbound|outgoing|message quota|"
    r"(?:mail|e-?mail|message)s? (?:limit|quota)|domain|plan)"
)
_OF_A_RECIPIENT = (
    r"\breceiving\b|has received\b|\breceived mails?\b|(?:can|may|is allowed to) (?:receive|be received)\b|"
    r"storedrv\.deliver|"
    r"recipient thread limit|"
    r"tried to reach|"
    r"try(?:ing)? to (?:reach|contact)|recipient(?:'s|s')|for mailbox|mailbox (?:for|of)\b|"
    r"(?:recipient|addressee|mailbox)\b(?: <?[^\s>]+@[^\s>]+>?)? (?:is (?:over|temporarily|currently)|"
    r"has (?:exceeded|reached))"
)
_OF_CONNECTIONS = (
    r"connection|session|concurren|parallel|simultaneous|(?:sender|outbound) thread limit|"
    r"too many (?:open )?(?:channels|sockets|smtp clients)"
)
_MAILS_OF_ONE = (
    r"(?:messages?|mails?|e-?mails?|transactions?|recipients?|envelopes?)\b.{0,40}"
    r"\b(?:per|in(?: a| one| this| the)?(?: single| same)?|on this|for this|this|over this|each|a) "
    r"(?:smtp )?(?:connection|session)|"
    r"(?:per|this|single)[ -](?:connection|session)\b.{0,40}(?:limit|maximum|exceed|reached)|"
    r"connection has (?:transferred|sent|delivered|carried)\b"
)
_OF_THIS_MAIL = (
    r"too large|too big|message size|file size|size limit|header size|line (?:too long|length)|too many hops|"
    r"hop count|"
    r"too many received|attachment|\bloop"
)

KINDS = (
    ReplyKind(
        name="greylisted",
        concern=Concern.RECIPIENT,
        rule="RFC 6647 §2: the relay accepts the mail after some minutes; longer and longer waits gain nothing",
        text=r"gr[ae]y[ -]?list|postgrey",
        only=4,
        least=10.0,
        most=10.0,
    ),
    ReplyKind(
        name="mail too large",
        concern=Concern.MAIL,
        rule="RFC 3463 §3.4 (X.3.4): too big for the relay; RFC 1870 §6.2",
        enhanced=r"[45]\.3\.4",
        text=r"(?:message|mail|header|file|body|attachment)s?\b.{0,20}(?:too (?:large|big)|size\b.{0,20}exceed)|"
        r"exceed\w*.{0,20}(?:message |mail)?size",
        unless=rf"{_DAY}|{_HOUR}",
    ),
    ReplyKind(
        name="recipient's rate",
        concern=Concern.RECIPIENT,
        rule="RFC 3463 §3.3 (X.2.1): for now the mailbox takes no more mails, whoever sends them",
        enhanced=r"5\.2\.12[0-9]",
        text=rf"(?:{_OF_A_RECIPIENT}).{{0,100}}(?:rate|too (?:quickly|fast|many|much)|per (?:hour|minute|day)|"
        rf"hourly|daily|"
        r"number of messages|thread limit|message limit)|"
        r"(?:rate|rate ?limit|limit) exceeded for mailbox|(?:rate|too many).{0,60}for this recipient",
        unless=r"too many (?:hops|connections)",
    ),
    ReplyKind(
        name="mailbox full",
        concern=Concern.RECIPIENT,
        rule="RFC 3463 §3.3 (X.2.2): a person must empty it, so a retry soon is useless",
        text=r"(?:mailbox|inbox|mail ?box|mail ?drop)\b.{0,40}(?:full|exceed|over(?: its| the)? quota|"
        r"out of (?:storage|space))|"
        r"(?:user|account|mailbox|recipient|inbox)\b.{0,60}(?:over|out of|exceed\w*)\b.{0,20}(?:quota|storage space|"
        r"disk)|"
        r"quota\b.{0,20}\b(?:mailbox|user is)|storedrv\.deliver\b.{0,60}quota|shutoffquotaexceeded|"
        r"too many messages in (?:\w+ )?(?:mailbox|inbox)",
        unless=r"\byour?\b (?:\w+ ){0,3}(?:quota|limit)|send limit|send(?:ing|er)\b|submission|relay|outbound|daily|"
        r"hourly|monthly|(?:mails|messages) (?:a|per|each|in a) (?:day|hour|month)",
        least=60.0,
    ),
    ReplyKind(
        name="mails on one connection",
        concern=Concern.CONNECTION,
        rule="RFC 5321 §4.2.3 (421); draft-ietf-emailcore-limits (MAILMAX): a limit of mails per connection",
        text=rf"{_MAILS_OF_ONE}|\bRP-002\b|\b(?:MI:DMC|RP:DRC)\b",
        unless=rf"{_DAY}|{_HOUR}",
    ),
    ReplyKind(
        name="connections",
        concern=Concern.CONNECTION,
        rule="RFC 5321 §4.2.3 (421); RFC 4954 §6 (some relays use 432): a limit of open connections",
        text=rf"(?:too many|too much|max(?:imum)?|limit|exceed\w*|reached|"
        rf"concurren\w*)\b.{{0,60}}(?:{_OF_CONNECTIONS})|"
        rf"(?:{_OF_CONNECTIONS}).{{0,60}}\b(?:limit|exceed\w*|reached|too many|maximum)|"
        r"only \w+ (?:\w+ )?(?:connection|session)|all (?:\w+ )?ports (?:are )?busy|\bRP-003\b|\bHL:ICC\b",
        unless=rf"{_DAY}|{_HOUR}|per (?:second|minute)|recipient thread",
    ),
    ReplyKind(
        name="connection given up",
        concern=Concern.CONNECTION,
        rule="RFC 5321 §4.5.3.2.7, §7.8: the connection was idle for too long, or had too many errors",
        text=r"timeout exceeded|command time-?out|idle (?:time|too long|connection)|"
        r"time-?out waiting for (?:data|command|client)|"
        r"connection timed out|too many (?:smtp )?(?:errors|unrecogni[sz]ed commands|bad commands|invalid commands)|"
        r"\b(?:MI|RP):C(?:EL|CL)\b",
        unless=r"retry timeout|host|remote|upstream",
    ),
    ReplyKind(
        name="day's quota",
        concern=Concern.QUOTA,
        rule="RFC 3463 §3.5, §3.8: relays use many codes for it (4.5.3, 5.4.5, 5.7.1 …), so the text decides",
        enhanced=r"5\.4\.5",
        text=rf"{_DAY}.{{0,100}}(?:{_LIMIT}|{_OVER})\b|(?:{_LIMIT}|{_OVER})\b.{{0,100}}{_DAY}|"
        r"submission ?quota|relay quota|\b(?:MI:STC|RP:TRC|RP:ORQ|HL:ITC)\b",
        unless=rf"{_OF_THIS_MAIL}|{_OF_A_RECIPIENT}|(?:messages?|mails?|e-?mails?) per (?:second|minute)",
        period=DAY,
    ),
    ReplyKind(
        name="hour's quota",
        concern=Concern.QUOTA,
        rule="RFC 3463 §3.5, §3.8: relays use many codes for it, so the text decides",
        text=rf"{_HOUR}.{{0,100}}(?:{_LIMIT}|{_OVER})\b|(?:{_LIMIT}|{_OVER})\b.{{0,100}}{_HOUR}|\bMI:SFQ\b",
        unless=rf"{_OF_THIS_MAIL}|{_OF_A_RECIPIENT}|try again|retry|few hours",
        period=HOUR,
    ),
    ReplyKind(
        name="plan's quota",
        concern=Concern.QUOTA,
        rule="RFC 3463 §3.8 (X.7.x): the credit of the account is used up",
        text=rf"{_MONTH}.{{0,60}}{_LIMIT}?.{{0,60}}\b{_OVER}|\b{_OVER}\b.{{0,60}}{_MONTH}|"
        r"(?:e-?mail|sending|message)s? limit is reached|upgrade your (?:plan|account)|(?:no|insufficient|"
        r"out of) credits?",
        unless=rf"{_OF_THIS_MAIL}|{_OF_A_RECIPIENT}|per second|per minute",
        period=DAY,
    ),
    ReplyKind(
        name="too many recipients",
        concern=Concern.MAIL,
        rule="RFC 5321 §4.5.3.1.10, RFC 3463 §3.6 (X.5.3): the other recipients need another transaction, soon",
        enhanced=r"[45]\.5\.3",
        text=r"too (?:many|much) recipients|recipients? (?:limit|per (?:message|mail|transaction))|\bRP:RCL\b",
        unless=r"\brate\b|short (?:time|period)|limit exceeded for|message limit",
        most=1.0,
    ),
    ReplyKind(
        name="rate limited",
        concern=Concern.RATE,
        rule="RFC 3463 §3.5 (X.4.5 congestion); IANA X.7.28 (mail flood detected)",
        enhanced=r"4\.4\.5|[45]\.7\.28|4\.7\.(?:500|65[0-9])",
        text=r"throttl|rate[ -]?limit|rate[ -]?controlled|(?:sending|message|mail|delivery|submission|recipient|"
        r"client)s? rate\b|"
        r"unusual rate|\brate\b.{0,30}(?:exceed|too high)|exceed\w*.{0,30}\brates?\b|(?:per|/) ?(?:second|sec|"
        r"minute|min)\b|"
        r"too (?:many|much) (?:messages?|mails?|e-?mails?|requests?|deliveries|submissions|commands|login attempts|"
        r"(?:failed )?auth\w*|fail\w* auth\w*)|too (?:fast|quickly|frequent\w*|often)|frequency limit|by frequency|"
        r"sending too (?:much|many)|sending velocity|due to (?:\w+ )?rate\b|slow(?:ing)? down|"
        r"(?:mail|message) flood|excessive (?:number of )?(?:volume|mail|messages|rate)|unexpected volume|(?:in|"
        r"within) a short (?:time|period)|server (?:is )?busy|too busy to accept|\bpeak\b.{0,30}limit|"
        r"(?:mail|message)s? send limit|send limit exceeded|try again later, closing connection|"
        r"\[?TSS?0[0-9]\]?|\bHCM1\b|\bRP-001\b|\b(?:RP:QRC|HL:IFC)\b",
        unless=rf"{_OF_THIS_MAIL}|{_OF_A_RECIPIENT}|too many (?:hops|errors)",
        least=2.0,
    ),
    ReplyKind(
        name="quota",
        concern=Concern.QUOTA,
        rule="RFC 3463 §3.5, §3.8: relays use many codes for it, so the text decides; it names no period",
        text=rf"{_ABOUT_SENDING}.{{0,60}}{_USED_UP}|{_USED_UP}.{{0,60}}{_ABOUT_SENDING}|"
        rf"{_LIMIT}\b.{{0,30}}{_ABOUT_SENDING}.{{0,30}}\b{_OVER}\b|over your \w* ?quota|"
        r"^[45]\.[3457]\.\d+ (?:.{0,80} )?quota\b.{0,10}\bexceed|policy rejection\W+quota|send\w* quota|"
        r"quota for sending|exceed sending limit|"
        r"sandbox limit",
        unless=rf"{_OF_THIS_MAIL}|{_OF_A_RECIPIENT}|{_OF_CONNECTIONS}|storage|retry|lookup|{_HOUR}.{{0,10}}$",
    ),
    ReplyKind(
        name="mailbox full",
        concern=Concern.RECIPIENT,
        rule="RFC 3463 §3.3 (X.2.2): a person must empty it, so a retry soon is useless",
        enhanced=r"[45]\.2\.2",
        text=r"(?:over|exceed\w*).{0,20}quota|quota.{0,20}exceed",
        least=60.0,
    ),
    ReplyKind(
        name="no such mailbox",
        concern=Concern.RECIPIENT,
        rule="RFC 5321 §4.2.3 (550, 553), RFC 3463 §3.2 (X.1.1); the text decides where the code does not show it",
        text=r"(?:user|recipient|mailbox|address|account)\b.{0,30}\b(?:unknown|not found|do(?:es)?(?: not|n't) "
        r"(?:exist|have)|invalid|not known|no longer)|(?:unknown|no such|invalid|non-?existent|bad) "
        r"(?:local |destination )?(?:user|recipient|mailbox|address|account|person|domain)|"
        r"no mailbox|not a valid (?:user|recipient|mailbox|address)|"
        r"recipient\b.{0,20}\b(?:suspended|disabled|inactive|discontinued)|disabled or discontinued|"
        r"invalid rcptto|5\.4\.1 recipient address rejected",
        unless=r"sender|from address|credentials|authenti|relay",
        only=5,
    ),
    ReplyKind(
        name="not logged in",
        concern=Concern.ACCOUNT,
        rule="RFC 4954 §6 (X.7.8, X.7.9, 530, 534, 535, 538; 454: the login server is away)",
        enhanced=r"[45]\.7\.(?:8|9|11|57)",
        codes=frozenset({530, 534, 535, 538, 525}),
        text=r"authentication (?:is )?(?:required|failed|failure|unsuccessful|credentials invalid)|"
        r"auth(?:entication)? first|"
        r"not authenticated|must authenticate|please authenticate|unauthenticated|(?:must|issue a) .{0,10}starttls|"
        r"username and password not accepted|(?:bad|invalid) (?:credentials|login|username)|"
        r"not authori[sz]ed to perform",
        unless=r"\b(?:spf|dkim|dmarc|arc|sender id|level|bimi|unauthenticated (?:e-?mail|mail|message)|"
        r"policy|policies)\b|"
        r"5\.7\.2[0-9]|5\.7\.515",
    ),
    ReplyKind(
        name="account suspended",
        concern=Concern.ACCOUNT,
        rule="RFC 3463 §3.8 (X.7.1): the account may not send; the text decides",
        enhanced=r"5\.7\.(?:5(?:0[1-3]|11)|70[0-9]|75[0-9]|23[2-9])|5\.1\.8(?!\d)",
        text=r"(?:sending|\byour? (?:\w+ ){0,2}(?:account|domain|subscription|organi[sz]ation|service)|(?:smtp |"
        r"this |the |user )?account|"
        r"tenant|subscription|organi[sz]ation|(?:mail|smtp|relay) service|outbound mail|api[ -]?key|"
        r"smtp credentials?)\b.{0,60}?\b(?:is|was|been|temporarily|"
        r"permanently|currently|has|not)?\s*"
        r"(?:suspended|disabled|blocked|locked|frozen|deactivated|inactive|not (?:yet )?(?:activated|active|"
        r"approved|enabled)|paused|banned|"
        r"terminated|expired|closed|restricted|revoked|under review|pending (?:approval|activation|review)|"
        r"on hold|unpaid|"
        r"unverified|"
        r"not allowed to send)|(?:suspended|disabled|blocked|paused)\b.{0,30}\b(?:sending|for (?:this|your) account)|"
        r"unusual sending activity|not authori[sz]ed to send|disabled your account|"
        r"\bdomain\b.{0,40}\b(?:suspended|unverified|not (?:verified|allowed to send))|"
        r"(?:bad|banned) (?:outbound )?sender|spam abuse detected|tenant has exceeded|"
        r"payment (?:required|overdue)|unpaid invoice|account has (?:no|been)|trial (?:period )?(?:has |"
        r"is )?(?:ended|over)\b|"
        r"verify your (?:sending )?domain|\b(?:WM:BLU|HL:REP|HL:MEP)\b",
        unless=rf"{_OF_A_RECIPIENT}|recipient|mailbox|no such|\b4\.[12]\.\d|5\.1\.[1-7]\b|5\.2\.|address rejected|"
        rf"sender address|discontinued|phish|content|\b(?:spf|dkim|dmarc|url)\b",
    ),
    ReplyKind(
        name="host blocked",
        concern=Concern.ACCOUNT,
        rule="RFC 5782 §2; RFC 3463 §3.8 (X.7.1): the relay accepts nothing from our IP address",
        enhanced=r"5\.7\.6(?:0[6-9]|[1-4][0-9])",
        text=r"client host\b.{0,60}\b(?:rejected|blocked|refused)|(?:your|ip|sending|source) (?:ip )?(?:address|ip|"
        r"server|host|network)\b.{0,60}"
        r"\b(?:blocked|block ?list|black ?list|deny ?list|rejected|banned|not (?:allowed|authori[sz]ed|permitted|"
        r"white))|"
        r"unauthori[sz]ed ip|banned sending ip|"
        r"\bip (?:is |has been |temporarily )*(?:rejected|blocked|(?:in )?black ?list|not allowed)|"
        r"traffic not accepted from this ip|"
        r"part of their network is on our block list|poor reputation|\(S3[0-9]{3}\)|\b(?:HL:IHU|HL:IPB|WM:BLI|"
        r"DT:RBL)\b",
        unless=r"cannot find your|helo|ehlo|hostname",
    ),
    ReplyKind(
        name="may not relay",
        concern=Concern.ACCOUNT,
        rule="RFC 3463 §3.8 (X.7.1): we may not relay for now; a 5xx may concern only the recipient's domain",
        text=r"relay(?:ing)?\b.{0,30}\b(?:denied|not (?:allowed|permitted)|prohibited|disallowed|refused)|"
        r"unable to relay|"
        r"not (?:allowed|permitted|authori[sz]ed) to relay|access denied",
        only=4,
    ),
    ReplyKind(
        name="relay's storage",
        concern=Concern.SYSTEM,
        rule="RFC 3463 §3.4 (X.3.1, X.3.2); RFC 5321 §4.2.3 (452)",
        enhanced=r"[45]\.3\.[12]",
        codes=frozenset({452}),
        text=r"insufficient (?:system )?(?:storage|resources|disk|memory|space)|out of (?:disk|memory|space|"
        r"resources)|"
        r"no space left|(?:disk|file ?system|spool|queue)\b.{0,20}\bfull|queue file write error|"
        r"not accepting (?:network )?messages|"
        r"(?:under|for|undergoing) (?:\w+ )?maintenance|overloaded|load (?:is )?too high",
        unless=rf"{_OF_A_RECIPIENT}|mailbox|inbox|5\.2\.|4\.2\.|service currently unavailable",
    ),
    ReplyKind(
        name="mailbox",
        concern=Concern.RECIPIENT,
        rule="RFC 3463 §3.2 and §3.3 (X.1.x, X.2.x); RFC 5321 §4.2.3 (450: mailbox busy)",
        enhanced=r"[45]\.[12]\.\d+",
        codes=frozenset({450}),
    ),
    ReplyKind(
        name="relay's system",
        concern=Concern.SYSTEM,
        rule="RFC 3463 §3.4 (X.3.x); RFC 5321 §4.2.3 (421: not available)",
        enhanced=r"4\.3\.\d+",
        codes=frozenset({421}),
    ),
    ReplyKind(
        name="network",
        concern=Concern.MAIL,
        rule="RFC 3463 §3.5 (X.4.x): the route behind the relay, which may differ from mail to mail",
        enhanced=r"[45]\.4\.\d+",
    ),
    ReplyKind(
        name="policy",
        concern=Concern.MAIL,
        rule="RFC 3463 §3.8 (X.7.x): a policy of the relay, whose effect may differ from mail to mail",
        enhanced=r"[45]\.7\.\d+",
    ),
    ReplyKind(
        name="other", concern=Concern.MAIL, rule="RFC 5321 §4.2.1: a refusal that does not show what it is about"
    ),
)
"""In the order in which they are tried. The last matches every reply."""

OTHER = KINDS[-1]

_NEVER = re.compile(r"(?!)")


def _compiled(pattern: str | None) -> re.Pattern[str]:
    return _NEVER if pattern is None else re.compile(pattern, re.IGNORECASE)


_MATCHERS = tuple((k, _compiled(k.enhanced), _compiled(k.text), _compiled(k.unless)) for k in KINDS)

_UNITS = {"s": 1.0, "m": 60.0, "h": HOUR, "d": DAY}
_HINT = re.compile(
    r"(?:(?:re)?try|come back|wait|again|defer\w*|delay\w*|gr[ae]y[ -]?list\w*)\b[^.;]{0,40}?\b(\d{1,6}|an?|one)\s*"
    r"(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?)\b",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?:(?:re)?try|come back|wait|again)\b(?:[^.;]{0,40}?\b(?:in|for|after))?[\s=]+"
    r"(?:(\d{1,2}):)?(\d{1,2}):(\d{2})\b(?!:)",
    re.IGNORECASE,
)
_OWN_TO_ONE_MAIL = re.compile(r"<[^>]*>|\S*[@\d]\S*|https?://\S+")
_QUOTED = re.compile(
    r"\s*(?:<[^>]*@[^>]*>|(?:\"[^\"]*\")?[^\s\"]*@\S*|(?i:https?)://\S+|(?<![\w.-])(?:[a-z0-9-]+\.)+[a-z]{2,}(?![\w.-]))"
)
"""Addresses, links and domains in a reply. They are left out: ``daily-limit@example.com`` names no daily limit."""


def kind_of(reply: Reply) -> ReplyKind:
    """Return the first of ``KINDS`` that matches ``reply``."""
    enhanced, text, level = reply.enhanced or "", _QUOTED.sub("", reply.text), reply.code // 100
    for kind, by_enhanced, by_text, unless in _MATCHERS:
        if kind.only not in (None, level):
            continue
        known = by_enhanced.fullmatch(enhanced) or (not enhanced and reply.code in kind.codes)
        if known and kind.text is None:
            return kind
        if (known or by_text.search(text)) and not unless.search(text):
            return kind
    return OTHER


def concern_of(reply: Reply) -> Concern:
    """Return what ``reply`` is about."""
    return kind_of(reply).concern


def gist(reply: Reply) -> str:
    """Return code and text of a reply without addresses, numbers and ids, which differ from mail to mail."""
    return f"{reply.code} {reply.enhanced or ''} {_words(reply.text)}"


def repeats(reply: Reply, reason: str) -> bool:
    """Return whether ``reason`` ends with the text of ``reply``, apart from addresses and numbers."""
    return _words(reason).endswith(_words(reply.text))


def of_the_relay(answered: Replied) -> tuple[Reply, ReplyKind] | None:
    """Return the reply that is about the relay, with its kind, or None if there is none.

    There is none if any recipient accepted the mail. If there are several, one whose kind ``holds`` comes first.
    """
    verdicts = answered.verdicts.values()
    if any(verdict.kind not in _REFUSED for verdict in verdicts):
        return None
    said = [(verdict.reply, kind_of(verdict.reply)) for verdict in verdicts]
    found = [one for one in said if one[1].concern in OF_THE_RELAY]
    return next((one for one in found if one[1].holds), found[0] if found else None)


def is_of_the_relay(outcome: Outcome) -> bool:
    """Return whether the relay took the mail for nobody, for a reason that is not the mail's."""
    match outcome:
        case RelayFault():
            return True
        case Replied():
            return of_the_relay(outcome) is not None
        case _:
            return False


def _words(text: str) -> str:
    return " ".join(_OWN_TO_ONE_MAIL.sub(" ", text).lower().split())


def hinted(reply: Reply) -> float | None:
    """Return after how many seconds the relay wants to be tried again, if its text says so.

    Relays write "try again in 300 seconds", "retry after 5 minutes", "come back in 00:04:30". No RFC defines a form.
    """
    if found := _HINT.search(reply.text):
        count = float(found[1]) if found[1].isdigit() else 1.0
        return count * _UNITS[found[2][0].lower()]
    if found := _CLOCK.search(reply.text):
        return int(found[1] or 0) * 3600.0 + int(found[2]) * 60.0 + int(found[3])
    return None
