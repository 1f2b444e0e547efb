use chrono::{Duration, TimeZone, Utc};
use proptest::prelude::*;

use super::*;

const GENERATION: u64 = 3;
const LENGTH: std::time::Duration = std::time::Duration::from_secs(30);

fn at(seconds: i64) -> Timestamp {
    Utc.timestamp_opt(1_700_000_000, 0).unwrap() + Duration::seconds(seconds)
}

fn starting() -> State {
    State { generation: GENERATION, deadline: at(50), length: Some(LENGTH), phase: Phase::Starting }
}

fn reason() -> impl Strategy<Value = EndReason> {
    prop_oneof![Just(EndReason::Killed), Just(EndReason::Shutdown), Just(EndReason::NodeLost)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..60i64).prop_map(|s| Event::Ready(at(s))),
        1 => Just(Event::BootFailed("no".into())),
        1 => (any::<Option<i32>>(), any::<bool>()).prop_map(|(code, oom)| Event::Exited(Exit { code, oom })),
        2 => (1..6u64, reason()).prop_map(|(generation, reason)| Event::Remove { generation, reason }),
        3 => (1..6u64, 0..200i64).prop_map(|(generation, s)| Event::SetDeadline { generation, at: at(s) }),
        3 => (0..60i64).prop_map(|s| Event::Clock(at(s))),
        1 => Just(Event::Gone),
    ]
}

/// Walks a whole life, checking every promise of the module at each step, and returns all effects.
fn live(events: Vec<Event>) -> (State, Vec<Effect>) {
    let (mut state, mut done) = (starting(), Vec::new());
    for event in events {
        let Ok((next, effects)) = decide(&state, event.clone()) else { continue };
        assert!(!matches!(state.phase, Phase::Ended(_)), "{event:?} had an effect after the end");
        assert_eq!(next.generation, state.generation);
        if next.deadline != state.deadline {
            assert!(matches!(state.phase, Phase::Starting | Phase::Running));
            match event {
                Event::SetDeadline { generation: GENERATION, at } => assert_eq!(next.deadline, at),
                Event::Ready(now) => assert_eq!(Some(next.deadline), state.length.map(|length| now + length), "a set deadline stays"),
                _ => panic!("{event:?} moved the deadline"),
            }
        }
        match (&state.phase, &next.phase) {
            (Phase::Aborting(before), Phase::Aborting(after) | Phase::Stopping(after) | Phase::Ended(after))
            | (Phase::Stopping(before), Phase::Stopping(after) | Phase::Ended(after)) => {
                assert_eq!(before, after, "the first cause wins");
            }
            (Phase::Starting, Phase::Starting | Phase::Running | Phase::Aborting(_) | Phase::Ended(_))
            | (Phase::Running, Phase::Running | Phase::Stopping(_)) => {}
            _ => panic!("{state:?} -> {next:?}"),
        }
        if state.phase != next.phase {
            assert!(effects.contains(&Effect::Announce), "{state:?} -> {next:?} is told");
        }
        if matches!(next.phase, Phase::Starting | Phase::Aborting(_)) {
            assert!(!effects.contains(&Effect::Save), "the boot owns the state file");
        }
        done.extend(effects);
        state = next;
    }
    (state, done)
}

fn count(effects: &[Effect], effect: Effect) -> usize {
    effects.iter().filter(|e| **e == effect).count()
}

proptest! {
    #[test]
    fn any_life_keeps_the_promises(events in prop::collection::vec(event(), 0..30)) {
        let (state, done) = live(events);
        prop_assert!(count(&done, Effect::Publish) <= 1);
        prop_assert!(count(&done, Effect::TearDown) <= 1);
        prop_assert!(count(&done, Effect::AbortBoot) <= 1);
        let place = |effect| done.iter().position(|e| *e == effect);
        if let (Some(published), Some(torn)) = (place(Effect::Publish), place(Effect::TearDown)) {
            let withdrawn = place(Effect::Withdraw);
            prop_assert!(withdrawn > Some(published) && withdrawn < Some(torn));
        }
        match state.phase {
            Phase::Aborting(_) => prop_assert!(place(Effect::AbortBoot).is_some()),
            Phase::Stopping(_) => prop_assert!(place(Effect::TearDown).is_some()),
            _ => {}
        }
    }

    #[test]
    fn a_stop_is_followed_by_a_teardown(events in prop::collection::vec(event(), 0..20), boot_wins in any::<bool>()) {
        // Whatever happened before, ask for a stop and let the world answer what it is asked: it ends, and it is told why.
        let stop = Event::Remove { generation: GENERATION, reason: EndReason::Killed };
        let (mut state, mut asked) = live(events.into_iter().chain([stop]).collect());
        let mut answers = 0;
        while !matches!(state.phase, Phase::Ended(_)) {
            answers += 1;
            prop_assert!(answers <= 2);
            let answer = match asked.last() {
                Some(Effect::AbortBoot) if boot_wins => Event::Ready(at(40)),
                Some(Effect::AbortBoot) => Event::BootFailed("aborted".into()),
                Some(Effect::TearDown) => Event::Gone,
                other => return Err(TestCaseError::fail(format!("nothing was asked for: {other:?} in {state:?}"))),
            };
            let (next, effects) = decide(&state, answer).unwrap();
            state = next;
            asked.extend(effects);
        }
    }
}

#[test]
fn older_messages_change_nothing_and_newer_removals_count() {
    let old = Event::Remove { generation: GENERATION - 1, reason: EndReason::Killed };
    assert_eq!(decide(&starting(), old), Err(Refusal::OtherGeneration));
    let (state, _) = decide(&starting(), Event::Remove { generation: GENERATION + 1, reason: EndReason::Killed }).unwrap();
    assert!(matches!(state.phase, Phase::Aborting(_)));
    for generation in [GENERATION - 1, GENERATION + 1] {
        assert_eq!(decide(&starting(), Event::SetDeadline { generation, at: at(1) }), Err(Refusal::OtherGeneration));
    }
}

#[test]
fn the_deadline_is_the_last_moment() {
    let (running, _) = decide(&starting(), Event::Ready(at(40))).unwrap();
    assert_eq!(decide(&running, Event::Clock(at(69))).unwrap(), (running.clone(), vec![]));
    let (stopping, effects) = decide(&running, Event::Clock(at(70))).unwrap();
    assert_eq!(stopping.phase, Phase::Stopping(Cause::plain(EndReason::Timeout)));
    assert_eq!(effects, [Effect::Withdraw, Effect::Save, Effect::Announce, Effect::TearDown]);
    // What comes later does not change why.
    let (later, effects) = decide(&stopping, Event::Exited(Exit { code: Some(1), oom: true })).unwrap();
    assert_eq!((later, effects), (stopping, vec![]));
}

#[test]
fn a_boot_that_beats_its_abort_is_torn_down() {
    let (aborting, effects) = decide(&starting(), Event::Remove { generation: GENERATION, reason: EndReason::Killed }).unwrap();
    assert_eq!(effects, [Effect::Announce, Effect::AbortBoot]);
    let (stopping, effects) = decide(&aborting, Event::Ready(at(40))).unwrap();
    assert_eq!(effects, [Effect::Save, Effect::Announce, Effect::TearDown]);
    let (ended, effects) = decide(&stopping, Event::Gone).unwrap();
    assert_eq!(ended.phase, Phase::Ended(Cause::plain(EndReason::Killed)));
    assert_eq!(effects, [Effect::Announce]);
}
