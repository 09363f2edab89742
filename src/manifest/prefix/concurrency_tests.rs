use super::*;

#[test]
fn a_burst_of_refusals_halves_once_and_answers_bring_workers_back() {
    let mut fleet = ListingWorkerLimit::new(16);
    fleet.record_response(0);
    assert_eq!(fleet.current(), 16);
    for refused in 1..=16 {
        fleet.record_response(refused);
    }
    assert_eq!(fleet.current(), 8);
    fleet.record_response(17);
    assert_eq!(fleet.current(), 4);
    for _ in 0..200 {
        fleet.record_response(17);
    }
    assert_eq!(fleet.current(), 16);
    for refused in 18..2000 {
        fleet.record_response(refused);
    }
    assert_eq!(fleet.current(), 1);
    assert_eq!(ListingWorkerLimit::new(0).current(), 1);
}
