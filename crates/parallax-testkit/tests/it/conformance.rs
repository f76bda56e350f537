//! The conformance suite: every case, once for each SDK.
//!
//! `cargo test -p parallax-testkit conformance::python` runs one SDK's, `… cancel` one subject's.
//! The fixtures are built on first use, which needs `npm` and `python3`; see
//! `parallax_testkit::conformance::fixtures`.

mod blobs;
mod cancel;
mod credit;
mod ending;
mod handshake;
mod liveness;
mod partials;
mod reconnect;
mod tasks;
mod tolerance;

/// Expands to `mod <language> { mod <subject> { #[test] fn <case>() … } }`.
///
/// A case that no list names is dead code, which the compiler reports.
macro_rules! suite {
    ($module:ident, $language:expr, { $($subject:ident: $($case:ident),+ ;)+ }) => {
        mod $module {
            $(mod $subject {
                $(#[test]
                fn $case() {
 if let Some(missing) = parallax_testkit::conformance::fixtures::missing($language) {
 parallax_testkit::skip!("{missing}");
 }
 parallax_testkit::conformance::run($language, super::super::$subject::$case);
                })+
            })+
        }
    };
}

macro_rules! every_case {
    ($($module:ident = $language:expr),+ $(,)?) => {
        $(suite!($module, $language, {
            handshake:
                hello_tells_who_the_agent_is_and_what_it_can,
                ready_is_printed_after_the_first_welcome,
                tls_trusts_the_private_ca_of_the_ca_file,
                tls_sends_no_token_to_a_server_of_another_ca,
                a_missing_welcome_makes_it_dial_again,
                two_processes_have_two_uuids;
            tasks:
                echo_returns_its_input_with_confidence_and_evidence,
                unicode_survives,
                every_json_type_survives,
                a_typed_failure_keeps_its_fields,
                a_crash_is_an_internal_failure_without_a_stack,
                an_input_against_the_schema_is_invalid_input,
                an_input_that_is_not_json_fails,
                an_unknown_capability_fails,
                the_deadline_cancels_the_handler,
                the_time_left_counts_and_not_the_clock,
                a_handler_without_a_deadline_has_no_time_left,
                an_input_frame_reaches_the_handler,
                an_input_frame_waits_for_the_handler,
                the_context_reaches_the_handler;
            credit:
                credit_comes_back_with_results_and_failures,
                credit_comes_back_after_a_cancel,
                as_many_tasks_run_at_once_as_credit_allows,
                a_capability_runs_no_more_than_its_max_concurrency,
                a_full_capability_does_not_hold_up_another,
                the_servers_max_credit_holds;
            partials:
                progress_and_partials_come_in_sequence,
                the_window_stops_the_agent_until_partial_credit,
                a_chunk_larger_than_the_window_gets_through,
                windows_are_per_task;
            cancel:
                a_cancel_stops_the_handler,
                a_cancel_after_the_result_is_too_late,
                a_cancel_of_an_unknown_task_says_so,
                a_cancel_of_another_attempt_touches_nothing,
                a_stubborn_handler_is_never_called_stopped,
                a_cancel_of_a_queued_task_stops_it,
                a_cancel_right_behind_its_task_stops_it,
                a_cancel_ends_a_wait_for_the_window;
            blobs:
                a_large_result_goes_by_blob,
                a_small_result_stays_inline,
                a_result_above_the_blob_limit_fails,
                a_failed_upload_loses_no_task,
                a_blob_input_is_fetched_whole,
                a_corrupted_blob_is_refused,
                a_truncated_blob_is_refused,
                a_broken_off_blob_fails_the_task,
                a_missing_blob_fails_the_task;
            liveness:
                heartbeats_renew_the_lease,
                heartbeats_carry_the_epoch_of_their_session,
                a_heartbeat_counts_what_is_in_flight,
                a_ping_is_answered,
                a_silent_server_is_left_after_two_ttl,
                a_dead_network_is_left_after_two_ttl;
            reconnect:
                a_running_task_survives_a_lost_connection,
                a_result_of_the_outage_is_kept,
                a_deadline_counts_during_an_outage,
                an_unacknowledged_result_is_sent_again,
                a_forgotten_result_is_dropped,
                an_unacknowledged_failure_is_sent_again,
                verdicts_follow_the_order_of_the_inventory,
                a_lost_welcome_loses_no_task,
                a_task_that_ends_between_hello_and_welcome_is_reported,
                a_task_that_ended_before_its_cancel_verdict_is_dropped,
                a_cancel_verdict_stops_the_task,
                kept_partials_go_on_after_the_servers_number,
                a_server_that_restarts_on_its_port_is_found,
                unavailable_is_obeyed,
                a_clean_end_of_the_stream_is_followed_by_a_new_session,
                a_status_in_the_stream_is_followed_by_a_new_session;
            ending:
                superseded_ends_the_process_with_an_error,
                sigterm_drains_and_exits_well,
                sigint_drains_and_exits_well,
                sigterm_lets_a_running_task_finish,
                a_task_that_crosses_the_drain_is_answered,
                a_drain_survives_a_lost_connection,
                sigterm_without_an_answer_ends_at_the_grace,
                sigterm_without_a_server_ends_the_process_well,
                removed_ends_the_process_well,
                removed_lets_a_running_task_finish,
                shutdown_is_obeyed_after_its_delay,
                an_expired_lease_is_renewed_with_the_inventory,
                a_new_token_is_read_after_goaway_unauthenticated,
                a_new_token_is_read_after_a_refusal;
            tolerance:
                an_unknown_frame_is_ignored,
                frames_for_unknown_tasks_are_ignored,
                a_large_inline_input_is_read;
        });)+
    };
}

every_case! {
    typescript = parallax_testkit::conformance::Language::TypeScript,
    python = parallax_testkit::conformance::Language::Python,
}
