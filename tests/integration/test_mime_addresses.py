"""Address lists as people and programs write them, and as attackers do."""

from __future__ import annotations

import time
from dataclasses import replace
from email.errors import InvalidHeaderDefect, MessageError
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.long import examples

from mailbatch.domain.address_list import parted
from mailbatch.domain.message import Address
from mailbatch.infrastructure.mime import addresses as reader
from mailbatch.infrastructure.mime.addresses import LONGEST_LIST, read_addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann@example.org", [("", "ann", "example.org")]),
        ("  ann@example.org  ", [("", "ann", "example.org")]),
        ("<ann@example.org>", [("", "ann", "example.org")]),
        ("Ann <ann@example.org>", [("Ann", "ann", "example.org")]),
        ('"Doe, Jane" <j@x.org>, bob@y.org', [("Doe, Jane", "j", "x.org"), ("", "bob", "y.org")]),
        ('"Jane \\"JD\\" Doe" <j@x.org>', [('Jane "JD" Doe', "j", "x.org")]),
        ("John Q. Public <j@x.org>", [("John Q. Public", "j", "x.org")]),
        ("a@x.org (Ann, at work), b@x.org", [("Ann, at work", "a", "x.org"), ("", "b", "x.org")]),
        ("José Müller <j@x.org>", [("José Müller", "j", "x.org")]),
        ("山田 太郎 <taro@例え.jp>", [("山田 太郎", "taro", "xn--r8jz45g.jp")]),
        ("=?utf-8?q?J=C3=B6rg?= <j@x.org>", [("Jörg", "j", "x.org")]),
        ("ann@MÜNCHEN.de", [("", "ann", "xn--mnchen-3ya.de")]),
        ("ann@xn--mnchen-3ya.de", [("", "ann", "xn--mnchen-3ya.de")]),
        ("Ann.B+tag@X.ORG", [("", "Ann.B+tag", "x.org")]),
        ("jörg@example.org", [("", "jörg", "example.org")]),
        ("用户@例え.jp", [("", "用户", "xn--r8jz45g.jp")]),
        ('"a b"@x.org', [("", '"a b"', "x.org")]),
        ("root@localhost, a@relay.test", [("", "root", "localhost"), ("", "a", "relay.test")]),
        ("a@b, a@mail.local", [("", "a", "b"), ("", "a", "mail.local")]),
        ("a@münchen.test", [("", "a", "xn--mnchen-3ya.test")]),
        ('"bob@y.org" <a@x.org>', [("bob@y.org", "a", "x.org")]),
        # --- a quoted local part may hold anything
        ('"aaa..b"@docomo.example', [("", '"aaa..b"', "docomo.example")]),
        ('".a"@x.org, "a."@x.org', [("", '".a"', "x.org"), ("", '"a."', "x.org")]),
        ('Ann <"aaa..b"@docomo.example>', [("Ann", '"aaa..b"', "docomo.example")]),
        ('"a,b"@x.org, <"c>, d"@x.org>', [("", '"a,b"', "x.org"), ("", '"c>, d"', "x.org")]),
        ('"a@b"@x.org', [("", '"a@b"', "x.org")]),
        ('"a\\"b"@x.org', [("", '"a\\"b"', "x.org")]),
        ('"ann"@x.org', [("", "ann", "x.org")]),
        # --- bounce and reply addresses are long
        (f"{'a' * 65}@x.org", [("", "a" * 65, "x.org")]),
        (f"{'a' * 230}@mail.test", [("", "a" * 230, "mail.test")]),
        (f"Bounces <b+{'c' * 70}=x.org@y.org>", [("Bounces", f"b+{'c' * 70}=x.org", "y.org")]),
        # --- what stands in parentheses is not dropped
        ("ACME (UK) Ltd <a@x.org>", [("ACME (UK) Ltd", "a", "x.org")]),
        ("ACME(UK)<a@x.org>", [("ACME(UK)", "a", "x.org")]),
        ("(Dr) Ann <a@x.org> (at work, mostly)", [("(Dr) Ann (at work, mostly)", "a", "x.org")]),
        ("A (b (c, d) \\) e) <a@x.org>", [("A (b (c, d) ) e)", "a", "x.org")]),
        ("(Ann) a@x.org", [("Ann", "a", "x.org")]),
        ("a@x.org (=?utf-8?q?J=C3=B6rg?=)", [("Jörg", "a", "x.org")]),
        ('Ann (5" and, 6" long) <a@x.org>', [('Ann (5" and, 6" long)', "a", "x.org")]),
        ("a@x.org ()", [("", "a", "x.org")]),
        # --- an address as its own name
        ("bob@example.com <bob@example.com>", [("bob@example.com", "bob", "example.com")]),
        ("Bob@Example.com <bob@example.com>", [("Bob@Example.com", "bob", "example.com")]),
        ("'bob@example.com' <bob@example.com>", [("'bob@example.com'", "bob", "example.com")]),
        ("bob@example.com<bob@example.com>", [("bob@example.com", "bob", "example.com")]),
        ("Bob (bob@work.example) <b@x.org>", [("Bob (bob@work.example)", "b", "x.org")]),
        # --- names as word processors write them
        ("Sinéad O\u2019Brien <o'brien@x.org>", [("Sinéad O\u2019Brien", "o'brien", "x.org")]),
        ("\u201cAnn\u201d <a@x.org>", [("\u201cAnn\u201d", "a", "x.org")]),
        ("Ann\u00a0B <a@x.org>\u00a0", [("Ann B", "a", "x.org")]),
        # --- encoded words: a character may begin in one and end in the next
        ("=?utf-8?b?5bE=?= =?utf-8?b?sQ==?= x <a@x.org>", [("\u5c71 x", "a", "x.org")]),
        ("=?iso-8859-1*de?q?J=F6rg?= Groß <a@x.org>", [("Jörg Groß", "a", "x.org")]),
        ('"\\=?utf-8?q?x?=" <a@x.org>', [("=?utf-8?q?x?=", "a", "x.org")]),
    ],
)  # fmt: skip
def test_a_list_is_read_in_its_order(text, expected):
    assert read_addresses(text) == [Address(*one) for one in expected]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "empty entry"),
        ("a@x.org,", "empty entry"),
        ("a@x.org,,b@x.org", "empty entry"),
        ("ann", '"ann" is no address: it has no @'),
        ("a@x.org, bob, c@x.org", '"bob" is no address'),
        ("Müller, Jörg <j@x.org>", '"Müller" is no address: it has no @ and domain (a name with a comma'),
        ("a@x.org b@x.org", '"a@x.org b@x.org" is no address'),
        ("a@x.org; b@x.org", "is no address"),
        ("alice@a.org]<bob@b.org>", '"alice@a.org]<bob@b.org>" is no address'),
        ("alice@a.org <bob@b.org>", "is no address"),
        ("bob <a@x.org> <b@x.org>", "is no address"),
        ("<a@x.org> b", "is no address"),
        ("<a@x.org", "is no address"),
        ('"open <a@x.org>', "is no address"),
        ("Friends: a@x.org, b@x.org;", "groups are not supported"),
        ("Re: Bob <b@x.org>", "a name with a colon in it needs quotes"),
        ("Müller, Jörg <j@x.org>", 'needs quotes: "Müller, Jörg" <j@x.org>)'),
        ("a@x.org; b@x.org", "put commas between addresses, not semicolons"),
        ("Ann <a@x.org>; Bob <b@x.org>;", "put commas between addresses, not semicolons"),
        ("Sales; Support <a@x.org>", 'a name with ; in it needs quotes: "Sales; Support" <a@x.org>'),
        ("Foo\\Bar <a@x.org>", 'needs quotes: "Foo\\\\Bar" <a@x.org>'),
        ("a@x.org b@x.org", "put a comma between two addresses"),
        ("Ann <a@x.org> Bob <b@x.org>", "put a comma between two addresses"),
        ("Ann a@x.org", 'needs angle brackets: "Ann" <a@x.org>'),
        ("ACME [UK] <a@x.org>", 'a name with [ in it needs quotes: "ACME [UK]" <a@x.org>'),
        ("alice@a.org <bob@b.org>", 'a name with @ in it needs quotes: "alice@a.org" <bob@b.org>'),
        ("Bob (at work <b@x.org>", "a parenthesis that is not closed"),
        ("mailto:a@x.org", "without mailto:"),
        ("Ann <mailto:a@x.org>", "without mailto:"),
        ("o\u2019brien@x.org", "it has \u2019 (U+2019); write o'brien@x.org"),
        ("anna\u2013maria@x.org", "(U+2013); write anna-maria@x.org"),
        ("\u201cDoe, Jane\u201d <j@x.org>", "write straight quotes"),
        ("\u201ca@x.org\u201d", "write it without quotation marks: a@x.org"),
        ("'a@x.org'", "write it without quotation marks: a@x.org"),
        ('b@x.org, "a@x.org"', "write it without quotation marks: a@x.org"),
        ("\u00aba@x.org\u00bb", "write it without quotation marks: a@x.org"),
        ("ann\uff20x.org", "write @ in place of \uff20"),
        ("a..b@x.org", 'write it in quotes: "a..b"@x.org'),
        ("Ann <a.@x.org>", 'write it in quotes: "a."@x.org'),
        ("=?utf-8?q?=FF?= <a@x.org>", "cannot be decoded"),
        ("=?utf-8?b?A?= <a@x.org>", "cannot be decoded"),
        ("=?hex?q?41?= <a@x.org>", "cannot be decoded"),
        ('"=?utf-8?q?x?=" <a@x.org>', "an encoded word (RFC 2047) in quotes"),
        ("(a@x.org)", "write the address plainly"),
        (f"{'a' * 250}@x.org", "too long"),
        ("undisclosed-recipients:;", "groups are not supported"),
        ("<@relay.org:a@x.org>", "is no address"),
        ("a @ x.org", "write the address plainly"),
        ("a(comment)@x.org", "write the address plainly"),
        ("=?utf-8?q?a=40evil.org?=@x.org", "is no address"),
        ("a@[127.0.0.1]", "is no address"),
        ("a@x..org", "is no address"),
        ("a..b@x.org", "is no address"),
        ("a@-x.test", "is no address"),
        ("a@under_score.org", "is no address"),
        ("@x.org", "is no address"),
        (f"a@{'x' * 64}.org", "is no address"),
        ("\uff41\uff4e\uff4e@x.org", "look-alike"),
        ("a\u200bb@x.org", "is no address"),
        ("=?utf-8?q?a=0D=0ABcc:_eve?= <a@x.org>", "is no address"),
        ("=?utf-8?b?4oCo?= <a@x.org>", "U+2028"),
        ("x" * 1_001 + " <a@x.org>", "1011 characters; at most 1000"),
        ("a@x.org, " * 200_000, f"at most {LONGEST_LIST} are read"),
    ],
)
def test_what_is_no_address_is_named(text, named):
    with pytest.raises(ValueError, match=r"address|entry|list") as caught:
        read_addresses(text)
    assert named in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "breach", ["\r\n", "\n", "\r", "\x00", "\x0b", "\x0c", "\x1e", "\x7f", "\x85", "\u2028", "\ud800"]
)
@pytest.mark.parametrize("around", ["a@x.org{}", '"A{}B" <a@x.org>', "a{}@x.org", "a@x{}.org", "a@x.org,{} b@x.org"])
def test_control_characters_are_refused_wherever_they_stand(around, breach):
    with pytest.raises(ValueError, match=r"U\+"):
        read_addresses(around.format(breach))


@examples(200)
@given(st.text('ab@.,;:<>()[]"\\ =?_é\t', max_size=40) | st.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        addresses = read_addresses(text)
    except ValueError as error:
        said = str(error)
        assert said.isprintable()
        return
    assert addresses
    for address in addresses:
        assert address.domain.isascii()
        assert read_addresses(address.addr_spec) == [Address("", address.local, address.domain)]


# Near the edge of what the pattern for plain entries knows.
ATOMS = st.lists(st.text("abz09!#$%&'*+/^_`{|}~-", min_size=1, max_size=5), min_size=1, max_size=3).map(".".join)
LABELS = st.text("abz", min_size=1, max_size=3) | st.text("abZ09-", min_size=1, max_size=6) | st.just("x" * 63)
LAST = st.sampled_from(["org", "test", "LOCAL", "arpa", "onion", "c", "123", "a1", "x" * 63, "x" * 64])
DOMAINS = st.tuples(st.lists(LABELS, min_size=1, max_size=4).map(".".join), LAST).map(".".join)
LOCALS = ATOMS | st.sampled_from(["Postmaster", "info", "a" * 64, "a" * 65, ".a", "a."])
SPECS = st.tuples(LOCALS, DOMAINS).map("@".join)
NAMED = st.lists(st.text("..abé山-_'\u0663\u0301ß!&+", min_size=1, max_size=5), max_size=3).map(" ".join)
QUOTED = st.text("abé山.-_' ()@,;<>\\=?\"", max_size=8)
BLANKS = st.sampled_from(["", " ", "  "])
ENTRIES = (
    st.tuples(BLANKS, SPECS, BLANKS).map("".join)
    | st.builds("{}{}<{}>{}".format, NAMED, BLANKS, SPECS, BLANKS)
    | st.builds('"{}"{}<{}>'.format, QUOTED, BLANKS, SPECS)
)


@examples(100)
@given(st.lists(ENTRIES, min_size=1, max_size=2).map(",".join))
def test_what_the_short_way_reads_the_long_way_reads_too_and_as_the_same(text):
    short = reader._plain(text)
    if short is not None:
        assert short == tuple(reader._address(entry.strip()) for entry in parted(text))


@examples(200)
@given(st.lists(ENTRIES, min_size=1, max_size=2).map(",".join) | st.text('ab.@<>"\\ ,é', max_size=12))
def test_addresses_without_comments_are_what_the_standard_library_reads(text):
    try:
        ours = read_addresses(text)
    except ValueError:
        return
    try:
        header = default.header_factory("To", text)
    except (AttributeError, IndexError, MessageError):
        return  # it stumbles over some
    if any(isinstance(defect, InvalidHeaderDefect) for defect in header.defects):
        return  # it makes something of everything; an address as its own name is one of these
    theirs = [(" ".join(one.display_name.split()), _quoted(one.addr_spec)) for one in header.addresses]
    assert ours == [replace(read_addresses(spec)[0], display_name=name) for name, spec in theirs]


def _quoted(spec: str) -> str:
    """An address as it has to be written: the standard library leaves quotes out where a local part has dots alone."""
    local, _, domain = spec.rpartition("@")
    return f'"{local}"@{domain}' if ".." in local or local[:1] == "." or local[-1:] == "." else spec


@pytest.mark.parametrize(
    "text",
    ["ann@example.org", "Dr. J. O'Neill <j@x-y.example.org>", '"Groß, Jürgen" <a.b+c@x.org>,b@Y.ORG', "山 <a@x.org>"],
)
def test_usual_addresses_go_the_short_way(text):
    assert reader._plain(text)


@pytest.mark.parametrize(
    "text", ["a@ab--c.org", "a@xn--mnchen-3ya.de", "Ann@x.org", "a@b", "a@x.c1", "=?utf-8?q?x?= <a@x.org>", "a@x.org,"]
)
def test_what_the_validator_has_to_judge_goes_the_long_way(text):
    assert reader._plain(text) is None


@pytest.mark.parametrize(
    "bomb",
    [
        '"\\' * 450_000,
        "(" * 900_000,
        "<" * 900_000,
        '"' * 900_000,
        "," * 900_000,
        "((" * 450,
        " " * 900_000,
        "a " * 400_000,
        "()" * 450_000,
        '<"' * 450_000,
        "a@x.org (" + ", ".join(["(" * 300 + ")" * 300] * 500),
    ],
)
def test_a_hostile_list_is_refused_quickly(bomb):
    began = time.process_time()
    with pytest.raises(ValueError, match=r"address|entry"):
        read_addresses(bomb)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("comment", ["(" * 480 + ")" * 480, "(x)" * 310, '("' * 240 + ")" * 240, r"(\))" * 230])
def test_50_kb_of_comments_take_no_time(comment):
    text = ", ".join([f"a@x.org {comment}"] * 52)
    began = time.process_time()
    assert len(read_addresses(text)) == 52
    assert time.process_time() - began < 0.5
