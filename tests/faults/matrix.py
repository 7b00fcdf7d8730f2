"""Every fault that we know of, and where it is tried: rows of the bench, tests, or why it is left out.

``python -m faults.matrix`` puts it into docs/reliability.md; a test holds the page and the names against what there is.
"""

from __future__ import annotations

from dataclasses import dataclass

from faults.tally import write

MACHINE = "for real only by `make machine`"
ALL_KILLS = ("1a", "1b", "1c", "1d", "1e", "1f", "1g", "1h")


@dataclass(frozen=True, slots=True)
class Known:
    """A fault. ``rows`` of the bench, ``tests`` by name; ``left`` says what of it is not tried here, and why."""

    number: str
    name: str
    rows: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    left: str = ""


MATRIX = [
    Known("A1", "kill -9 of the sending child at each step", ALL_KILLS),
    Known("A2", "kill -9 of it at random", ("1r",), ("test_a_strict_sender_that_is_killed_at_random_repeats_nothing",)),
    Known("A3", "kill -9 of the worker, its children orphaned", ALL_KILLS),
    Known("A4", "kill of a child and what the broker redelivers", ALL_KILLS, left="acks come early by design: leases"),
    Known("A5", "SIGTERM in a long run", ("2a", "2b"), ("test_sigterm_lets_the_worker_exit_within_seconds",)),
    Known("A6", "SIGQUIT, a second signal", ("2c", "2d"), ("test_sigquit_is_known_before_the_soft_shutdown",)),
    Known("A7", "SIGSTOP past the lease, a second run, SIGCONT", ("1j", "1s")),
    Known(
        "A8",
        "a mail that kills its process (out of memory)",
        (),
        (
            "test_a_mail_that_kills_its_process_is_set_aside_and_its_neighbours_go_out",
            "test_a_mail_that_the_kernel_kills_its_sender_for_is_set_aside",
        ),
        MACHINE,
    ),
    Known(
        "A9", "power cut of everything", ("4b", "4c"), left="losing unsynced pages needs a block device of one's own"
    ),
    Known("B1", "two beats", (), ("test_ten_beats_at_once_give_one_tick", "test_two_workers_with_beats_give_one_tick")),
    Known("B2", "beat away for hours", ("6a",), ("test_after_an_outage_there_is_one_tick_and_on_from_there",)),
    Known("B3", "worker away for hours, ticks go on", (), ("test_a_tick_expires_by_the_clock_of_the_database",)),
    Known("B4", "clock jumps on the host of beat", (), ("test_a_clock_that_jumps_on_the_host_of_beat",)),
    Known(
        "B5", "clock jumps on the host of the worker", (), ("test_without_a_time_it_is_due_at_once_by_the_databases",)
    ),
    Known(
        "B6", "summer time begins and ends", (), ("test_a_time_of_day_that_comes_twice", "test_a_time_of_day_that_the")
    ),
    Known("B7", "clocks of worker and database apart", (), ("test_no_mail_is_begun_once_the_lease_has_run_out",)),
    Known("C1", "Redis killed, its data lost", ("3b",)),
    Known("C2", "Redis frozen", ("3c",)),
    Known("C3", "the network to Redis cut", ("3c",), ("test_a_network_that_falls_silent_and_comes_back",), MACHINE),
    Known("C4", "FLUSHALL in mid-run", ("3d",)),
    Known("C5", "the lock expires, is deleted or stolen in a run", ("3e", "3f"), ("test_a_run_whose_lock_was_stolen",)),
    Known("C6", "Redis out of memory or read-only", ("3h", "3i")),
    Known("C7", "Redis away at the start", (), ("test_without_redis_a_run_fails", "test_without_redis_it_is_sent")),
    Known("C8", "odd messages in the queue", ("3j",)),
    Known("D1", "PostgreSQL restarted, crashed, killed", ("4a", "4b", "4c")),
    Known("D2", "its connections terminated", ("4d",)),
    Known(
        "D3",
        "failover",
        ("4f",),
        ("test_a_synchronous_standby_takes_over", "test_what_an_asynchronous_standby_had_not_heard_of"),
        MACHINE,
    ),
    Known("D4", "deadlock, statement timeout", ("4h", "4i"), ("test_a_late_verdict_and_a_requeue_of_the_same_mails",)),
    Known("D5", "disk full", ("4g",), ("test_a_full_disk_below_the_tables", "test_a_full_disk_below_the_log"), MACHINE),
    Known(
        "D6", "statements slower than the lease", ("1g", "4i"), ("test_no_mail_is_begun_once_the_lease_has_run_out",)
    ),
    Known("D7", "no connection free", (), (), "a process holds five at most, and waits; not tried"),
    Known(
        "D8",
        "the schema older or newer than the code",
        (),
        ("test_an_unmigrated_database_stops_the_start", "test_a_database_of_a_newer_mailbatch_is_left_alone"),
    ),
    Known("D9", "several writers on SQLite", ("4j",), ("test_lanes_that_claim_at_once_never_get_the_same_mail",)),
    Known(
        "D10",
        "SQLite read-only, on a full disk, on NFS",
        (),
        ("test_a_full_disk_below_an_sqlite_file_is_waited_for",),
        f"{MACHINE}; not on NFS, where SQLite's own manual advises against it",
    ),
    Known("E1", "a backlog of millions", (), ("test_with_300000_due_the_sender_does_not_grow",)),
    Known("E2", "no vacuum while draining", (), (), "measured by hand once, without a record"),
    Known("E3", "counting for a gauge", (), ("test_counts_say_whether_they_are_exact",)),
    Known("E4", "cancels racing with the sending", (), ("test_what_was_answered_cancelled_is_never_sent",)),
    Known("E5", "cancel of what is being sent or in doubt", (), ("test_cancel_tells_each_apart",)),
    Known("E6", "urgent mail behind the cursor", (), ("test_urgent_mail_that_comes_in_during_a_long_run_overtakes",)),
    Known("E7", "a run longer than the interval", ("3g",), ("test_a_long_run_shows_itself_is_not_overtaken",)),
    Known(
        "E8",
        "killed while the run is reported",
        (),
        ("test_the_outbox_holds_the_report_once_the_row", "test_what_did_not_arrive_is_tried_again_with_the_same_id"),
    ),
    Known("E9", "an old backup restored", (), ("test_too_late_is_measured_by_max_lateness",), "`MAX_LATENESS` only"),
    Known("E10", "a wrong relay in the settings", (), ("test_each_wrong_setting_has_its_line_and_no_secret_is_shown",)),
    Known(
        "S1",
        "relay refused, unknown, unreachable",
        ("5a",),
        ("test_three_ticks_without_a_relay_and_a_fourth", "test_a_name_that_is_none_is_a_fault"),
    ),
    Known("S2", "dropped before the body", ("5b",), ("test_a_breakdown_before_the_dot_is_the_relays_fault",)),
    Known("S3", "dropped inside the body", ("5c",), ("test_a_relay_lost_in_the_middle_of_the_body",)),
    Known("S4", "dropped after the dot, not taken", ("5d",), ("test_a_breakdown_after_the_dot_is_no_verdict",)),
    Known("S5", "dropped after the dot, taken", ("5e",)),
    Known("S6", "the dot is answered late or never", ("5j",), ("test_a_reply_that_comes_late_but_in_time_counts",)),
    Known("S7", "421 at each step, and between mails", ("5f",), ("test_421_is_the_relays_fault_everywhere",)),
    Known("S8", "greylisting", ("5g",), ("test_a_greylisted_mail_comes_back_within_five_to_ten_minutes",)),
    Known("S9", "5xx to RCPT and body", ("5h",), ("test_a_definite_refusal_is_the_mails_own",)),
    Known("S10", "one of several recipients refused", ("5n",), ("test_a_refused_recipient_does_not_keep_the_others",)),
    Known(
        "S11", "too many recipients, too many mails on a connection", (), ("test_a_connection_is_worn_out_after_so",)
    ),
    Known("S12", "replies byte by byte", ("5i",), ("test_a_breakdown_before_the_dot_is_the_relays_fault",)),
    Known("S13", "a reply without end", ("5l",), ("test_a_flood_costs_no_memory",)),
    Known("S14", "garbage", ("5k",), ("test_a_breakdown_after_the_dot_is_no_verdict",)),
    Known(
        "S15",
        "answers ahead of the questions",
        ("5m",),
        ("test_an_answer_ahead_of_the_dot_is_not_believed", "test_more_answers_than_questions_are_not_believed"),
    ),
    Known("S16", "the relay stops reading", (), ("test_a_relay_that_stops_reading_is_left_at_the_deadline",)),
    Known(
        "S17",
        "certificates and protocols that are not good",
        (),
        (
            "test_an_expired_certificate_is_refused",
            "test_a_certificate_of_another_host_is_refused",
            "test_an_unknown_authority_is_refused",
        ),
    ),
    Known("S18", "STARTTLS stripped", (), ("test_starttls_that_was_stripped_is_refused_when_required",)),
    Known("S19", "answers injected before TLS", (), ("test_what_is_said_ahead_of_tls_is_refused",)),
    Known("S20", "AUTH refused", (), ("test_a_wrong_password_is_tried_once_and_is_hopeless",)),
    Known("S21", "a mail beyond the relay's SIZE", (), ("test_a_mail_beyond_the_relays_size_is_refused_by_name",)),
    Known(
        "S22",
        "no SMTPUTF8, international domains",
        (),
        ("test_addresses_beyond_ascii_are_refused_where_it", "test_an_international_domain_needs_no_smtputf8"),
    ),
    Known("S23", "long ways to the relay", (), ("test_latency_does_not_add_up",), "rates: docs/benchmarks.md"),
    Known(
        "P1", "templates with faults, missing templates", ("7a",), ("test_the_error_of_a_missing_template_says_where",)
    ),
    Known("P2", "NUL, lone surrogates, odd line ends", ("8a",), ("test_a_lone_surrogate_in_a_body_is_a_problem",)),
    Known("P3", "bodies of many megabytes", ("7c",), ("test_many_mails_of_five_megabytes_cost_the_memory_of_a",)),
    Known("P4", "attachments that are missing, or no files", (), ("test_what_cannot_be_sent_is_its_own_mails_error",)),
    Known("P5", "addresses that are none", ("7b",)),
    Known(
        "P6",
        "templates that never end or fill memory",
        ("7a",),
        ("test_templates_that_would_fill_memory_or_take_for_ever",),
    ),
    Known("P7", "a mail that crashes the process each time", (), ("test_a_mail_that_kills_its_process_is_set_aside",)),
    Known(
        "P8",
        "ten thousand recipients, contexts of 10 MB",
        ("7d", "7e"),
        (),
        "relays have limits of their own: Postfix hangs up on 2,021 recipients of one mail, which is then set aside",
    ),
    Known(
        "P9",
        "the temporary file of attachments: disk full, no such folder, unreadable in the middle of a mail",
        (),
        (
            "test_a_full_disk_is_one_clear_line",
            "test_a_folder_that_cannot_be_used_is_one_clear_line",
            "test_a_mail_whose_content_is_not_available_now_is_deferred",
            "test_a_content_that_cannot_be_read_costs_its_own_mail",
            "test_a_full_spool_lets_only_those_mails_wait_that_do_not_fit",
        ),
    ),
    Known(
        "P10",
        "a file that a mail carries, when a process, the relay or the database breaks in its middle",
        ("9a", "9b", "9c", "9d"),
    ),
    Known("P11", "a stored file that is damaged or gone", ("9e", "9f")),
    Known(
        "P12",
        "an application that is killed while it stores a file; applications that store it at once; a purge meanwhile",
        (),
        (
            "test_what_a_killed_application_leaves_is_purged_a_day_later",
            "test_applications_that_store_the_same_files_at_once",
            "test_a_purge_leaves_an_old_file_that_an_open_transaction",
        ),
    ),
    Known(
        "P13",
        "odd values and hostile paths of attachments",
        (),
        ("test_stored_by_an_insert_it_is_that_mails_error", "test_what_is_no_file_below_the_folder"),
    ),
    Known(
        "H1", "line breaks and header names in every field", ("8a",), ("test_a_header_cannot_be_injected_by_headers",)
    ),
    Known("H2", "SMTP smuggling by bare line ends", ("8b",)),
    Known("H3", "secrets and addresses in logs, errors, results", (), ("test_no_secret_no_address_and_no_content",)),
]


def lines() -> list[str]:
    """The matrix as a table."""
    return [
        "| # | fault | rows above | tests | not tried here |",
        "|---|---|---|---|---|",
        *(f"| {k.number} | {k.name} | {', '.join(k.rows)} | {_short(k.tests)} | {k.left} |" for k in MATRIX),
    ]


def _short(tests: tuple[str, ...]) -> str:
    return ", ".join(f"`{test}`" for test in tests)


if __name__ == "__main__":
    write("matrix", lines())
