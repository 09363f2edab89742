use std::sync::Mutex;

use super::*;
use crate::journal::FileLease;
use crate::remote::local_cache::lease_cache;
use crate::remote::lock::LocklessPush;
use crate::remote::testing::place;

/// A long lease: longer than anything in these tests takes.
const LONG: Duration = Duration::from_mins(1);

async fn seek(
    store: &PrefixStore,
    who: &str,
    lease: Duration,
    mine: Option<&LeaseToken>,
) -> Result<StateLock, RemoteError> {
    let request = LockRequest { process_name: who, lease, timeout: Duration::ZERO, token: mine, on_wait: &|_, _| {} };
    StateLock::acquire(store, &request).await
}

#[tokio::test]
async fn each_holder_makes_the_next_generation() {
    let place = place().await;
    for generation in 1..=3 {
        let mut lock = seek(&place.store, "one", LONG, None).await.expect("nobody holds it");
        assert_eq!(lock.generation, generation);
        lock.release(&place.store).await.expect("released");
    }
    let old = find_removable(&place.store, 3).await.expect("listed").expect("it is the newest");
    remove_locks(&place.store, old).await.expect("cleared");
    assert_eq!(list_generations(&place.store).await.expect("listed"), [3]);
    let (generation, holder, released) = read_newest_holder(&place.store).await.expect("looked").expect("one");
    assert_eq!((generation, holder.name.as_str(), released), (3, "one", true));
}

#[tokio::test]
async fn a_renewed_lock_is_not_taken_over() {
    let place = place().await;
    let mut lock = seek(&place.store, "first", LONG, None).await.expect("nobody holds it");
    let told = Mutex::new(Vec::new());
    let waits = |holder: &LockHolder, _: Duration| told.lock().expect("no panic").push(holder.name.clone());
    let request =
        LockRequest { process_name: "second", lease: LONG, timeout: Duration::ZERO, token: None, on_wait: &waits };
    let renewing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            lock.renew(&place.store, LONG).await.expect("it is ours");
        }
    };
    let refused = tokio::select! {
        sought = StateLock::acquire(&place.store, &request) => sought.map(|lock| lock.generation),
        () = renewing => unreachable!("it never ends"),
    };
    assert!(matches!(refused, Err(RemoteError::HeldBy(holder)) if holder.name == "first"));
    assert_eq!(*told.lock().expect("no panic"), ["first"]);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_over_and_its_holder_finds_out() {
    let place = place().await;
    let short = Duration::from_millis(200);
    let mut lost = seek(&place.store, "first", short, None).await.expect("nobody holds it");
    let lock = seek(&place.store, "second", LONG, None).await.expect("the first is silent");
    assert_eq!(lock.generation, 2);
    let found = lost.renew(&place.store, short).await.expect_err("it is too late");
    assert!(matches!(found, RemoteError::NotRenewed(_)), "{found}");
    // A holder that is not late finds the other lock.
    let found = lost.renew(&place.store, LONG).await.expect_err("it is another's");
    assert!(matches!(found, RemoteError::TakenOver(who) if who.starts_with("second since ")));
}

#[tokio::test]
async fn a_cache_does_not_wait_for_its_own_lock() {
    let place = place().await;
    let lock = seek(&place.store, "first", LONG, None).await.expect("nobody holds it");
    let again = seek(&place.store, "first, again", LONG, Some(&lock.token())).await.expect("it need not wait");
    assert_eq!(again.generation, 2);
    // The first lease token is no longer valid.
    assert_ne!(again.token(), lock.token());
}

#[tokio::test]
async fn a_slow_process_does_not_acquire_an_old_generation() {
    let place = place().await;
    for _ in 1..=2 {
        let mut lock = seek(&place.store, "quick", LONG, None).await.expect("nobody holds it");
        lock.release(&place.store).await.expect("released");
    }
    let old = find_removable(&place.store, 2).await.expect("listed").expect("it is the newest");
    remove_locks(&place.store, old).await.expect("cleared");
    // It has listed no lock, slept, and wakes up now.
    let mut slow = LockCandidate::new(&place.store, "slow", LONG, LockTakeover::IfFree(None));
    slow.acquisition.snapshots_listed(0);
    slow.acquisition.locks_listed(&[]);
    assert_eq!(slow.acquisition.step(), AcquireStep::Create(1));
    assert_eq!(slow.run_steps().await.expect("asked"), AcquireOutcome::LostRace);
    // The lock that it leaves does not block the next process.
    let next = seek(&place.store, "next", LONG, None).await.expect("nobody holds it");
    assert_eq!(next.generation, 3);
    let old = find_removable(&place.store, 3).await.expect("listed").expect("it is the newest");
    assert_eq!(old, [1, 2]);
}

#[tokio::test]
async fn a_lock_that_was_removed_does_not_let_an_older_generation_begin() {
    let place = place().await;
    let head = snapshot::StateSnapshot::empty().next_push(7, 0, "");
    head.write(&place.store).await.expect("written");
    assert_eq!(seek(&place.store, "one", LONG, None).await.expect("there is no lock").generation, 8);
}

#[tokio::test]
async fn whatever_a_lock_says_it_can_be_taken_by_force() {
    let place = place().await;
    place.store.put(&lock_name(1), "?".into()).await.expect("written");
    // This name is no generation, because the number is too long.
    place.store.put("lock/18446744073709551615.json", "?".into()).await.expect("written");
    assert!(matches!(seek(&place.store, "one", LONG, None).await, Err(RemoteError::Damaged { .. })));
    assert_eq!(take_by_force(&place.store, "operator", 1).await.expect("forced"), 2);
    assert_eq!(seek(&place.store, "one", LONG, None).await.expect("free").generation, 3);
}

#[tokio::test]
async fn lockless_pushes_are_refused_while_a_lock_is_held() {
    let place = place().await;
    let early = LocklessPush::start(&place.store).await.expect("nobody holds it");
    let mut lock = seek(&place.store, "first", LONG, None).await.expect("nobody holds it");
    assert!(matches!(LocklessPush::start(&place.store).await, Err(RemoteError::HeldBy(_))));
    // A process that started before the lock was acquired finds out.
    assert!(
        matches!(early.verify(&place.store).await, Err(RemoteError::TakenOver(who)) if who.starts_with("first since "))
    );
    lock.release(&place.store).await.expect("released");
    let late = LocklessPush::start(&place.store).await.expect("nobody holds it");
    late.verify(&place.store).await.expect("nobody came");
    assert_eq!(late.generation, 2);
}

#[tokio::test]
async fn a_lock_is_taken_by_force_and_its_holder_finds_out() {
    let place = place().await;
    let mut lock = seek(&place.store, "first", LONG, None).await.expect("nobody holds it");
    assert_eq!(take_by_force(&place.store, "operator", 1).await.expect("forced"), 2);
    assert!(matches!(lock.renew(&place.store, LONG).await, Err(RemoteError::TakenOver(_))));
    assert_eq!(seek(&place.store, "next", LONG, None).await.expect("free").generation, 3);
}

#[tokio::test]
async fn a_lock_that_was_not_shown_is_not_taken_by_force() {
    let place = place().await;
    let mut shown = seek(&place.store, "shown", LONG, None).await.expect("nobody holds it");
    shown.release(&place.store).await.expect("released");
    // While the person decides, another process acquires the lock.
    let mut other = seek(&place.store, "other", LONG, None).await.expect("nobody holds it");
    let refused = take_by_force(&place.store, "operator", shown.generation).await.expect_err("it is another's");
    assert!(matches!(refused, RemoteError::LockChanged), "{refused}");
    other.renew(&place.store, LONG).await.expect("it is ours still");
}

#[test]
fn a_folder_that_a_command_works_with_does_not_become_a_copy_of_a_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let shared = FileLease::acquire_shared(folder.path()).expect("nobody holds it");
    assert!(matches!(lease_cache(folder.path()), Err(RemoteError::CacheInUse(_))));
    drop(shared);
    let _held = lease_cache(folder.path()).expect("nobody works with it");
    assert!(FileLease::acquire_shared(folder.path()).is_err());
}

#[test]
fn only_names_of_locks_are_generations() {
    assert_eq!(parse_generation(&lock_name(12)), Some(12));
    for name in ["lock/12.json", "lock/000000000012", "lock/now-1", "lock/+00000000012.json", "heads/000000000012.json"]
    {
        assert_eq!(parse_generation(name), None, "{name}");
    }
}
