//! Receivers that do not take what they are told: the job does not care, and the command ends.

use std::time::{Duration, Instant};

use batchplan::job::JobStatus;

use crate::events::run;
use crate::receiver::{Answer, Receiver};
use crate::scene::{APPLY, Scene, TAG, assert_stands};

#[test]
fn a_receiver_that_is_troubled_for_a_moment_is_asked_again_with_the_same_letter() {
    let busy = [Answer::Status("503 Service Unavailable", "Retry-After: 1\r\n"), Answer::Broken];
    let (scene, receiver) = (Scene::with_objects(3), Receiver::answering(busy));
    scene.plan(&format!("{TAG}{}", receiver.hook("secret_env = \"HOOK\"")));
    let ran = run(&scene, &APPLY).ended(0);
    assert_eq!(receiver.events(), ["complete"; 3]);
    let letters = receiver.letters();
    assert!(letters.iter().all(|letter| letter.raw == letters[0].raw));
    letters.iter().for_each(crate::receiver::Letter::assert_signed);
    assert!(!ran.stderr.contains("\nwarning: "), "{}", ran.stderr);
}

#[test]
fn a_receiver_that_wants_none_of_it_is_not_asked_again() {
    for (status, headers, said) in [
        ("404 Not Found", "", "answered 404"),
        ("302 Found", "Location: /elsewhere\r\n", "answered 302; redirects are not followed"),
        ("429 Too Many Requests", "Retry-After: 86400\r\n", "answered 429; gave up after 1 attempt"),
    ] {
        let (scene, receiver) = (Scene::with_objects(3), Receiver::always(Answer::Status(status, headers)));
        scene.plan(&format!("{TAG}{}", receiver.hook("")));
        let ran = run(&scene, &APPLY).ended(0);
        let short: String = scene.newest().id.as_str().chars().take(8).collect();
        let line = format!("warning: webhook not delivered for job {short} (`complete`): http://127.0.0.1:");
        assert!(ran.stderr.contains(&line) && ran.stderr.contains(&format!(" {said}\n")), "{}", ran.stderr);
        assert_eq!(receiver.letters().len(), 1, "{status}");
    }
}

#[test]
fn an_endless_answer_is_not_read() {
    let (scene, receiver) = (Scene::with_objects(3), Receiver::always(Answer::Endless));
    scene.plan(&format!("{TAG}{}", receiver.hook("")));
    let ran = run(&scene, &APPLY).ended(0);
    assert_eq!(receiver.events(), ["complete"]);
    assert!(!ran.stderr.contains("\nwarning: "), "{}", ran.stderr);
}

#[test]
fn no_receiver_holds_up_a_job_or_changes_what_becomes_of_it() {
    let scene = Scene::with_objects(10);
    scene.deny(|key| key == "k0003");
    let (silent, broken, well) =
        (Receiver::always(Answer::Silence), Receiver::always(Answer::Status("500 No", "")), Receiver::new());
    // Nothing serves this port any more; one that was free a moment ago may be another test's by now.
    let down = "[[notify]]\nurl = \"http://127.0.0.1:1/\"\n".to_owned();
    let on = "on = [\"active\", \"complete\"]";
    let hooks = [silent.hook(on), broken.hook(on), down, well.hook(on)].concat();
    scene.plan(&format!("{TAG}{hooks}"));
    let began = Instant::now();
    let ran = run(&scene, &APPLY).ended(3);
    // Fifteen seconds are allowed; the rest is for a machine that is busy with other tests.
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert_stands(&scene.job(&ran.json()), JobStatus::Complete, 9, 1);
    assert_eq!(ran.json()["failed"], 1);
    assert_eq!(well.events(), ["active", "complete"], "others do not wait for those that are silent");
    assert!(ran.stderr.contains("not delivered in time"), "{}", ran.stderr);
}

#[test]
fn an_interrupted_command_does_not_wait_for_the_silent() {
    let (scene, silent) = (Scene::with_objects(12), Receiver::always(Answer::Silence));
    scene.plan(&format!("{TAG}[limits]\nconcurrency = 4\n{}", silent.hook("on = [\"active\", \"paused\"]")));
    let running = scene.start_and_hold(5, 4);
    running.signal("TERM");
    scene.wait_for(JobStatus::Pausing);
    scene.let_go();
    let began = Instant::now();
    let ran = running.over().ended(5);
    assert!(began.elapsed() < Duration::from_secs(10), "a CI runner kills what does not leave: {:?}", began.elapsed());
    assert!(ran.stderr.ends_with("warning: 2 notifications were not delivered in time\n"), "{}", ran.stderr);
    assert_eq!(scene.newest().status, JobStatus::Paused);
}

#[test]
fn a_signal_ends_the_wait_for_the_silent() {
    let (scene, silent) = (Scene::with_objects(2), Receiver::always(Answer::Silence));
    scene.plan(&format!("{TAG}{}", silent.hook("")));
    let running = scene.start(&APPLY);
    running.wait_for("delivering notifications. Press Ctrl-C to quit now.");
    let began = Instant::now();
    running.signal("INT");
    let ran = running.over().ended(0);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(ran.stderr.ends_with("warning: 1 notification was not delivered in time\n"), "{}", ran.stderr);
}

#[test]
fn the_last_status_is_tried_however_little_the_receiver_takes() {
    for answer in [Answer::Silence, Answer::Status("503 No", "")] {
        let (scene, receiver) = (Scene::with_objects(3), Receiver::always(answer));
        scene.plan(&format!("{TAG}{}", receiver.hook("on = [\"active\", \"complete\"]")));
        let running = scene.start(&APPLY);
        receiver.wait_for("complete");
        running.signal("INT");
        running.over().ended(0);
        let events = receiver.events();
        assert_eq!(events.iter().filter(|event| *event == "complete").count(), 1, "{answer:?}: {events:?}");
        assert_eq!(events.first().map(String::as_str), Some("active"), "{answer:?}: {events:?}");
    }
}

#[test]
fn a_receiver_that_has_had_too_many_is_left_alone_by_later_messages_too() {
    let too_many = Answer::Status("429 Too Many Requests", "Retry-After: 86400\r\n");
    let (scene, receiver) = (Scene::with_objects(3), Receiver::answering([too_many]));
    scene.plan(&format!("{TAG}{}", receiver.hook("on = [\"active\", \"complete\"]")));
    let ran = run(&scene, &APPLY).ended(0);
    assert_eq!(receiver.events(), ["active"], "{}", ran.stderr);
    assert!(
        ran.stderr.contains("(`active`): http://127.0.0.1:")
            && ran.stderr.contains("answered 429; gave up after 1 attempt")
    );
    assert!(ran.stderr.contains("(`complete`): http://127.0.0.1:"), "{}", ran.stderr);
    assert!(ran.stderr.contains(" asked to receive no messages for now\n"), "{}", ran.stderr);
}
